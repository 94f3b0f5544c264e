package coretext

import (
	"bytes"
	"debug/elf"
	"strings"

	"github.com/pkg/errors"
)

// notes makes a PT_NOTE segment of the lines inside l.
func (b *builder) notes(l *line) error {
	l.check("at", "p_")
	at := b.place(l, b.round)
	if l.err != nil {
		return l.err
	}
	var contents []byte
	for _, inner := range l.inner {
		p := b.inside(inner)
		if inner.err != nil {
			return inner.wrap(inner.err)
		}
		if contents = append(contents, p...); len(contents) > maxSize {
			return errors.Errorf("more than %d bytes of notes", maxSize)
		}
	}
	return b.segment(l, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at}, contents)
}

// inside returns the bytes of a line inside a PT_NOTE segment.
func (b *builder) inside(l *line) []byte {
	if l.verb == "data" {
		l.check("bytes")
		return l.bytes("bytes", b.order)
	}
	l.check("name", "type", "desc", "repeat", "n_")
	desc := l.bytes("desc", b.order)
	name, _ := l.get("name")
	if name != "" {
		name += "\x00"
	}
	header := struct{ Namesz, Descsz, Type uint32 }{Namesz: uint32(len(name)), Descsz: uint32(len(desc))}
	if typ, ok := l.get("type"); ok {
		l.fail(set(&header, "n_type", typ))
	}
	l.override(&header, "n_")
	var p []byte
	for _, n := range []uint32{header.Namesz, header.Descsz, header.Type} {
		p = b.order.AppendUint32(p, n)
	}
	p = append(p, pad4(name)...)
	p = append(p, pad4(string(desc))...)
	repeat := l.num("repeat", 1)
	if repeat > maxSize/uint64(len(p)) {
		l.fail(errors.Errorf("repeat: found %d, expected at most %d bytes in all", repeat, maxSize))
		return nil
	}
	return bytes.Repeat(p, int(repeat))
}

// pad4 adds the padding of names and descs: to 4 bytes in both classes, as all
// writers of vmcores have it.
func pad4(s string) string {
	return s + strings.Repeat("\x00", -len(s)&3)
}

// load makes a PT_LOAD segment.
func (b *builder) load(l *line) error {
	l.check("at", "size", "bytes", "p_")
	at, size := b.place(l, b.round), l.num("size", 0)
	if l.err != nil {
		return l.err
	}
	prog := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: at}
	if size > maxSize {
		return errors.Errorf("size: found %d, expected at most %d", size, maxSize)
	}
	if size == 0 {
		return b.segment(l, prog, l.bytes("bytes", b.order))
	}
	if _, ok := l.get("bytes"); ok {
		return errors.New("found both size and bytes, expected one of them")
	}
	memory := make([]byte, size)
	Pattern(memory, l.num("p_paddr", 0))
	return b.segment(l, prog, memory)
}

// segment adds a program header, whose fields the line's p_ keys override, and
// its contents.
func (b *builder) segment(l *line, prog elf.Prog64, contents []byte) error {
	at := prog.Off
	prog.Filesz = uint64(len(contents))
	prog.Memsz = prog.Filesz
	if l.override(&prog, "p_"); l.err != nil {
		return l.err
	}
	b.progs = append(b.progs, prog)
	if len(contents) == 0 { // no room taken: at may lie anywhere
		return nil
	}
	return b.put(at, contents)
}

// section adds a section header and its contents.
func (b *builder) section(l *line) error {
	l.check("name", "at", "bytes", "sh_")
	at, contents := b.place(l, 1), l.bytes("bytes", b.order)
	name, _ := l.get("name")
	sec := elf.Section64{Name: uint32(strings.Index(b.names, "\x00"+name+"\x00") + 1), Off: at}
	if name == ".shstrtab" {
		sec.Type = uint32(elf.SHT_STRTAB)
		b.shstrndx = uint16(len(b.sections)) + 1 // after the null section
		if contents == nil {
			contents = []byte(b.names)
		}
	}
	sec.Size = uint64(len(contents))
	if l.override(&sec, "sh_"); l.err != nil {
		return l.err
	}
	b.sections = append(b.sections, sec)
	return b.put(at, contents)
}
