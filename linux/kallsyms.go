package linux

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"sort"

	"github.com/pkg/errors"
)

const (
	// maxSymbols and maxNames bound kallsyms. Linux 6.12 has 151,000
	// symbols whose compressed names take 2 MB.
	maxSymbols = 1 << 20
	maxNames   = 16 << 20
	// maxTokens is more than the token table ever has: its index is 16
	// bits.
	maxTokens = 1 << 16
	// maxName is KSYM_NAME_LEN since 6.1.
	maxName = 512
	// tokens is the number of tokens.
	tokens = 256
)

// kallsyms is the kernel's own symbols (kernel/kallsyms.c). A name is stored as
// a length and as many bytes, each of which stands for a token of several
// characters. The first character is the symbol's type.
type kallsyms struct {
	names   []byte
	token   [tokens][]byte
	offsets []byte // 4 bytes for each symbol, in order of address
	place   uint64 // address of offsets
	base    uint64 // kallsyms_relative_base
	form    offsetForm

	start []uint32 // of each name, in names
	hash  []uint32 // of each name without its type

	known map[string]int // what find has found
}

// offsetForm is what an offset means.
type offsetForm int

const (
	fromBase  offsetForm = iota // added to the base, unsigned (6.15 on)
	fromPlace                   // added to the offset's own address, signed (7.x)
	// A negative offset is one's complement of the distance from the base;
	// any other is the absolute address of a per-CPU variable
	// (CONFIG_KALLSYMS_ABSOLUTE_PERCPU, until 6.14).
	absolutePerCPU
)

// kallsymsPlace is where kallsyms' tables lie, as virtual addresses.
type kallsymsPlace struct {
	names, tokenTable, tokenIndex, offsets, relativeBase uint64
	num                                                  uint64 // of symbols
}

// kallsyms returns the kernel's symbols, which are read once.
func (k *Kernel) kallsyms() (*kallsyms, error) {
	return k.symbols.get(func() (*kallsyms, error) {
		place, ok, err := k.kallsymsInfo()
		if err != nil {
			return nil, err
		}
		if !ok {
			f := &tableFinder{k: k}
			_, err := f.find()
			return f.found, err
		}
		return k.readKallsyms(place)
	})
}

// kallsymsInfo returns the places that VMCOREINFO states, since Linux 6.0.
func (k *Kernel) kallsymsInfo() (p kallsymsPlace, ok bool, err error) {
	var num uint64
	for _, s := range [...]struct {
		name string
		to   *uint64
	}{
		{"kallsyms_names", &p.names},
		{"kallsyms_num_syms", &num},
		{"kallsyms_token_table", &p.tokenTable},
		{"kallsyms_token_index", &p.tokenIndex},
		{"kallsyms_offsets", &p.offsets},
	} {
		if *s.to, ok = k.info.symbol(s.name); !ok {
			return p, false, nil
		}
	}
	p.relativeBase, _ = k.info.symbol("kallsyms_relative_base")
	p.num, err = k.uint(num, 4)
	return p, true, errors.WithMessage(err, "kallsyms_num_syms")
}

// readKallsyms reads the tables and indexes the names.
func (k *Kernel) readKallsyms(p kallsymsPlace) (*kallsyms, error) {
	s, err := k.readSymbolNames(p)
	if err == nil {
		err = s.setOffsets(k, p)
	}
	return s, err
}

// readSymbolNames reads the names, and all that leads to them. The addresses
// are not known yet.
func (k *Kernel) readSymbolNames(p kallsymsPlace) (*kallsyms, error) {
	if p.num == 0 || p.num > maxSymbols {
		return nil, corrupt("kallsyms has %d symbols", p.num)
	}
	index := make([]byte, 2*tokens)
	if _, err := k.Read(index, p.tokenIndex); err != nil {
		return nil, errors.WithMessage(err, "kallsyms_token_index")
	}
	// Nothing states where the table ends; what follows it is part of the
	// image.
	table := make([]byte, maxTokens)
	n, err := k.Read(table, p.tokenTable)
	s := &kallsyms{known: map[string]int{}}
	if !s.setTokens(table[:n], index) {
		if err == nil {
			err = corrupt("kallsyms_token_index")
		}
		return nil, errors.WithMessage(err, "kallsyms_token_table")
	}
	return s, s.readNames(k, p.names, int(p.num))
}

// setOffsets reads the offsets and finds out what they mean.
func (s *kallsyms) setOffsets(k *Kernel, p kallsymsPlace) error {
	if err := k.meter.keep(4 * int(p.num)); err != nil {
		return errors.WithMessage(err, "kallsyms_offsets")
	}
	s.offsets, s.place, s.base = make([]byte, 4*p.num), p.offsets, 0
	if _, err := k.Read(s.offsets, p.offsets); err != nil {
		return errors.WithMessage(err, "kallsyms_offsets")
	}
	if p.relativeBase != 0 {
		var err error
		if s.base, err = k.Pointer(p.relativeBase); err != nil {
			return errors.WithMessage(err, "kallsyms_relative_base")
		}
	}
	return s.calibrate(k)
}

// setTokens finds the tokens. It reports whether all of them end within the
// table.
func (s *kallsyms) setTokens(table, index []byte) bool {
	for i := range s.token {
		at := int(binary.LittleEndian.Uint16(index[2*i:]))
		token, _, ended := bytes.Cut(table[min(at, len(table)):], []byte{0})
		if !ended || len(token) > maxName {
			return false
		}
		s.token[i] = token
	}
	return true
}

// readNames reads the names in pieces, for their length is not stored.
func (s *kallsyms) readNames(k *Kernel, addr uint64, num int) error {
	const piece = 256 << 10
	if err := k.meter.keep((4 + 4) * num); err != nil {
		return errors.WithMessage(err, "kallsyms")
	}
	s.start = make([]uint32, 0, num)
	s.hash = make([]uint32, 0, num)
	h := fnv.New32a()
	var buf []byte
	for at := 0; len(s.start) < num; {
		// A name takes 2 bytes for its length and a byte for each
		// token.
		if at+2+maxName > len(s.names) && len(s.names) < maxNames {
			if err := k.meter.keep(piece); err != nil {
				return errors.WithMessage(err, "kallsyms_names")
			}
			old := len(s.names)
			s.names = append(s.names, make([]byte, piece)...)
			n, err := k.Read(s.names[old:], addr+uint64(old))
			s.names = s.names[:old+n]
			if err != nil && at >= len(s.names) {
				return errors.WithMessage(err, "kallsyms_names")
			}
		}
		name, end := s.compressed(at)
		if end == 0 {
			return corrupt("kallsyms_names ends at symbol %d of %d", len(s.start), num)
		}
		buf = s.expand(buf[:0], name)
		h.Reset()
		h.Write(buf[min(1, len(buf)):])
		if err := k.meter.spend(16 + 2*len(buf)); err != nil {
			return errors.WithMessage(err, "kallsyms_names")
		}
		s.start = append(s.start, uint32(at))
		s.hash = append(s.hash, h.Sum32())
		at = end
	}
	return nil
}

// compressed returns the name at an offset in names, and where the next one
// begins: 0 if this one does not end. A length of 128 and more takes two bytes
// since Linux 6.1; before that no name was so long.
func (s *kallsyms) compressed(at int) (name []byte, end int) {
	if at >= len(s.names) {
		return nil, 0
	}
	n := int(s.names[at])
	at++
	if n&0x80 != 0 {
		if at >= len(s.names) {
			return nil, 0
		}
		n = n&0x7f | int(s.names[at])<<7
		at++
	}
	if n > len(s.names)-at {
		return nil, 0
	}
	return s.names[at : at+n], at + n
}

// expand appends the characters of a name to buf, no more than the kernel
// would.
func (s *kallsyms) expand(buf, name []byte) []byte {
	for _, c := range name {
		if buf = append(buf, s.token[c]...); len(buf) > maxName {
			return buf[:maxName]
		}
	}
	return buf
}

// name returns the name of symbol i without its type.
func (s *kallsyms) name(i int) string {
	name, _ := s.compressed(int(s.start[i]))
	b := s.expand(nil, name)
	return string(b[min(1, len(b)):])
}

// calibrate finds out what offsets mean, by a symbol that VMCOREINFO states.
func (s *kallsyms) calibrate(k *Kernel) error {
	for _, name := range []string{"_text", "_stext", "swapper_pg_dir", "init_uts_ns"} {
		want, ok := k.info.symbol(name)
		if !ok {
			continue
		}
		i, ok := s.find(name)
		if !ok {
			continue
		}
		for s.form = range absolutePerCPU + 1 {
			if s.addr(i) == want {
				return nil
			}
		}
		return corrupt("kallsyms has %s at %#x, VMCOREINFO at %#x", name, s.addr(i), want)
	}
	return corrupt("kallsyms has no symbol that VMCOREINFO states")
}

// addr returns the address of symbol i.
func (s *kallsyms) addr(i int) uint64 {
	off := int32(binary.LittleEndian.Uint32(s.offsets[4*i:]))
	switch {
	case s.form == fromPlace:
		return s.place + uint64(4*i) + uint64(int64(off))
	case s.form == fromBase:
		return s.base + uint64(uint32(off))
	case off < 0:
		return s.base - 1 - uint64(int64(off))
	}
	return uint64(off)
}

// maxNotThis bounds the names that have the hash of another: there is hardly
// ever one, unless somebody forges them.
const maxNotThis = 64

// find returns the first symbol of a name.
func (s *kallsyms) find(name string) (int, bool) {
	i, ok := s.known[name]
	if !ok {
		i = s.search(name)
		s.known[name] = i
	}
	return i, i >= 0
}

// search looks through all symbols. It returns -1 if none has the name.
func (s *kallsyms) search(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	sum := h.Sum32()
	others := 0
	for i, have := range s.hash {
		if have != sum {
			continue
		}
		if s.name(i) == name {
			return i
		}
		if others++; others == maxNotThis {
			break
		}
	}
	return -1
}

// at returns the last symbol whose address is not above addr.
func (s *kallsyms) at(addr uint64) (int, bool) {
	// In order of address but for per-CPU symbols, which come first and
	// have small addresses.
	after := sort.Search(len(s.start), func(i int) bool { return s.addr(i) > addr })
	if after == 0 {
		return 0, false
	}
	// Of several symbols at one address the first is the one that the
	// kernel prints.
	last := s.addr(after - 1)
	return sort.Search(after-1, func(i int) bool { return s.addr(i) >= last }), true
}
