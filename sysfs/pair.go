package sysfs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// Limits of a Pair. The buffer of 2012 was 8 KiB, and that of VMCOREINFO is one
// page; x86 and arm64 have at most 52 bits of physical address.
const (
	maxSize = 1 << 20 // bytes
	maxEnd  = 1 << 52 // Addr + Size
)

// Pair is where a kernel keeps a note: a buffer in physical memory. The buffer
// holds the note and zero fill after it, so Size is no measure of the note.
type Pair struct {
	Addr uint64 // physical address in bytes, on no boundary in particular
	Size uint64 // bytes
}

// ParsePair reads a pair as a kernel prints it: the address, then the size, on
// one line, with any white space around them. Both numbers are hexadecimal,
// with or without 0x: the patches of 2012 print "1cba8c0 2000", today's
// /sys/kernel/vmcoreinfo prints "0x0000000100c66000 1024" and means 0x1024
// bytes. The pair returned is within the limits that Validate checks.
func ParsePair(s string) (Pair, error) {
	text := strings.TrimSpace(s)
	words := strings.Fields(text)
	if strings.ContainsAny(text, "\r\n") || len(words) != 2 {
		return Pair{}, errors.Errorf("pair %.64q: expected an address and a size on one line", text)
	}
	addr, err := parseHex("address", words[0])
	if err != nil {
		return Pair{}, err
	}
	size, err := parseHex("size", words[1])
	if err != nil {
		return Pair{}, err
	}
	p := Pair{Addr: addr, Size: size}
	if err := p.validate(); err != nil {
		return Pair{}, err
	}
	return p, nil
}

// validate reports whether Size is within 1 B and maxSize, and the buffer's end
// is not beyond maxEnd.
func (p Pair) validate() error {
	switch {
	case p.Size < 1 || p.Size > maxSize:
		return errors.Errorf("pair %q: size %#x, expected 0x1 to %#x", p, p.Size, maxSize)
	case p.Addr > maxEnd-p.Size:
		return errors.Errorf("pair %q: address %#x, expected an end at or below %#x", p, p.Addr, uint64(maxEnd))
	}
	return nil
}

// String returns the pair as the patches of 2012 printed it: "1cba8c0 2000".
// ParsePair reads it back.
func (p Pair) String() string {
	return fmt.Sprintf("%x %x", p.Addr, p.Size)
}

func parseHex(what, word string) (uint64, error) {
	digits := word
	if rest, ok := strings.CutPrefix(strings.ToLower(word), "0x"); ok {
		digits = rest
	}
	v, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return 0, errors.Errorf("%s %.64q: expected a hexadecimal number of at most 64 bits", what, word)
	}
	return v, nil
}
