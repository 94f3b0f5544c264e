// Package coretext makes small ELF cores out of text, for tests: the cores that
// no machine at hand produces, and those that lie. libkdumpfile's tests
// describe their dumps in the same spirit.
//
// # Lines
//
// A line is a verb and its arguments, key=value, in any order. A line that
// begins with a blank continues the line before it; # begins a comment. A
// number is written as in Go (0x1000, 4096, -1) or, where debug/elf knows it
// for that key, by name (EM_S390, PT_LOAD). Bytes are written as
//
//	"text"        a Go string, with its escapes
//	hex:0aff      these bytes
//	zero:N        N zeros
//	fill:N:B      N times the byte B
//	u32:N, u64:N  a number in the core's byte order
//
// and where a key takes bytes it may be given several times: they are put one
// after another.
//
// A key spelt as the ELF specification spells a field (e_phoff, p_filesz,
// sh_link, and for notes n_namesz) sets that field, after all else is settled,
// and has no other effect (but that p_paddr makes a load's pattern): it may
// lie. The keys without a prefix say what really is.
//
//	elf class=64 data=lsb     the file header, on the first line, with the defaults for class (64, 32) and data (lsb, msb)
//	    phdrs=OFFSET          the program headers' place (directly after the file header)
//	    shdrs=OFFSET          the section headers' place (after all else)
//	    round=N               segments begin at multiples of N, as in /proc/vmcore (1)
//	    xnum, xnum=N          e_phnum is PN_XNUM; the number of program headers, or N, is section 0's sh_info
//	notes at=OFFSET           a PT_NOTE segment, of the note and data lines that follow
//	note name=TEXT type=N     one note, padded to 4 bytes; its name is given without the closing zero
//	    desc=BYTES repeat=N
//	data bytes=BYTES          bytes between or after notes
//	load at=OFFSET size=N     a PT_LOAD segment of N bytes, as Pattern makes them for its p_paddr
//	    bytes=BYTES           in place of size: the memory itself
//	section name=TEXT         a section; the null section precedes the first, .shstrtab gets the names
//	    at=OFFSET bytes=BYTES
//	patch at=OFFSET           overwrites or extends the finished file
//	    bytes=BYTES
//	truncate size=N           cuts the finished file
//
// Program and section headers stand in the order of their lines, and so do the
// contents in the file where no at= says otherwise. Defaults are
// e_type=ET_CORE, e_machine=EM_X86_64, p_flags=7 for a load, p_filesz and
// p_memsz the contents' size, sh_type=SHT_STRTAB for .shstrtab and zero for all
// else.
package coretext

import (
	"debug/elf"
	"encoding/binary"

	"github.com/pkg/errors"
)

// maxSize bounds the file, in bytes.
const maxSize = 16 << 20

// Build returns the core that text describes. An error names the line.
func Build(text []byte) ([]byte, error) {
	lines, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 || lines[0].verb != "elf" {
		return nil, errors.New("the first line: expected elf")
	}
	b := newBuilder(lines)
	for _, l := range lines {
		if err := b.layOut(l); err != nil {
			return nil, l.wrap(err)
		}
	}
	if err := b.headers(); err != nil {
		return nil, lines[0].wrap(err)
	}
	for _, l := range lines {
		if err := b.edit(l); err != nil {
			return nil, l.wrap(err)
		}
	}
	return b.out, nil
}

// byteOrder is what binary.LittleEndian and binary.BigEndian are.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// builder lays the core out, line by line.
type builder struct {
	out    []byte // the file so far
	cursor uint64 // where the next contents go: the end of what was laid out

	elf     *line // the first line
	class32 bool
	order   byteOrder
	round   uint64 // segments begin at its multiples
	phdrs   uint64 // offset of the program headers
	phnum   uint64 // how many there will be
	shdrs   uint64 // offset of the section headers; 0: after all else
	shnum   uint64 // how many there will be, the null section included

	names    string // contents of .shstrtab
	progs    []elf.Prog64
	sections []elf.Section64
	shstrndx uint16
}

// newBuilder counts what the tables will hold, so that room for them can be
// left.
func newBuilder(lines []*line) *builder {
	b := &builder{elf: lines[0], names: "\x00"}
	_, xnum := b.elf.get("xnum")
	for _, l := range lines {
		switch l.verb {
		case "notes", "load":
			b.phnum++
		case "section":
			name, _ := l.get("name")
			b.names += name + "\x00"
			b.shnum++
		}
	}
	if xnum || b.shnum > 0 {
		b.shnum++
	}
	return b
}

// layOut puts the contents that l describes into the file.
func (b *builder) layOut(l *line) error {
	if (l.verb == "elf") != (l == b.elf) {
		return errors.New("expected as the first line only")
	}
	switch l.verb {
	case "elf":
		return b.begin()
	case "notes":
		return b.notes(l)
	case "note", "data":
		return errors.New("expected after a notes line")
	case "load":
		return b.load(l)
	case "section":
		return b.section(l)
	case "patch", "truncate": // when all is laid out
		return nil
	}
	return errors.New("unknown verb")
}

// begin reads the layout from the elf line, and leaves room for the headers.
func (b *builder) begin() error {
	b.elf.check("class", "data", "phdrs", "shdrs", "round", "xnum", "e_")
	switch class, ok := b.elf.get("class"); {
	case class == "32":
		b.class32 = true
	case ok && class != "64":
		b.elf.fail(errors.Errorf("class: found %s, expected 32 or 64", class))
	}
	switch data, ok := b.elf.get("data"); {
	case data == "msb":
		b.order = binary.BigEndian
	case ok && data != "lsb":
		b.elf.fail(errors.Errorf("data: found %s, expected lsb or msb", data))
	default:
		b.order = binary.LittleEndian
	}
	ehsize := b.sizeof(elf.Header64{}, elf.Header32{})
	b.round, b.phdrs, b.shdrs = b.elf.num("round", 1), b.elf.num("phdrs", ehsize), b.elf.num("shdrs", 0)
	if b.elf.err != nil {
		return b.elf.err
	}
	if err := b.put(0, make([]byte, ehsize)); err != nil {
		return err
	}
	if err := b.put(b.phdrs, make([]byte, b.phnum*b.sizeof(elf.Prog64{}, elf.Prog32{}))); err != nil {
		return err
	}
	if b.shdrs == 0 {
		return nil
	}
	return b.put(b.shdrs, make([]byte, b.shnum*b.sizeof(elf.Section64{}, elf.Section32{})))
}

// edit changes the finished file as l says.
func (b *builder) edit(l *line) error {
	switch l.verb {
	case "patch":
		l.check("at", "bytes")
		at, p := l.num("at", 0), l.bytes("bytes", b.order)
		if l.err != nil {
			return l.err
		}
		return b.put(at, p)
	case "truncate":
		l.check("size")
		size := l.num("size", 0)
		if l.err != nil {
			return l.err
		}
		if size > uint64(len(b.out)) {
			return errors.Errorf("size: found %d, expected at most the file's %d", size, len(b.out))
		}
		b.out = b.out[:size]
	}
	return nil
}

// put writes p at an offset, over what may be there, and moves the cursor after
// it.
func (b *builder) put(at uint64, p []byte) error {
	if at > maxSize || uint64(len(p)) > maxSize-at {
		return errors.Errorf("%d bytes at offset %#x: expected a file of at most %d bytes", len(p), at, maxSize)
	}
	end := at + uint64(len(p))
	if end > uint64(len(b.out)) {
		b.out = append(b.out, make([]byte, end-uint64(len(b.out)))...)
	}
	copy(b.out[at:], p)
	b.cursor = max(b.cursor, end)
	return nil
}

// place returns where the contents of line l go, which begin at multiples of
// round.
func (b *builder) place(l *line, round uint64) uint64 {
	at := b.cursor
	if round > 1 {
		at += (round - at%round) % round
	}
	return l.num("at", at)
}
