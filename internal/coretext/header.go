package coretext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"github.com/pkg/errors"
)

// pnXNum, PN_XNUM in the specification, is the e_phnum that points to section
// 0's sh_info. debug/elf has no name for it.
const pnXNum = 0xffff

// headers writes the file header and both tables into the room that was left
// for them.
func (b *builder) headers() error {
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{
			elf.ELFMAG[0], elf.ELFMAG[1], elf.ELFMAG[2], elf.ELFMAG[3],
			elf.EI_CLASS: byte(elf.ELFCLASS64), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: byte(elf.EV_CURRENT),
		},
		Type:      uint16(elf.ET_CORE),
		Machine:   uint16(elf.EM_X86_64),
		Version:   uint32(elf.EV_CURRENT),
		Phoff:     b.phdrs,
		Ehsize:    uint16(b.sizeof(elf.Header64{}, elf.Header32{})),
		Phentsize: uint16(b.sizeof(elf.Prog64{}, elf.Prog32{})),
		Phnum:     uint16(b.phnum),
	}
	if b.class32 {
		header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS32)
	}
	if b.order == binary.BigEndian {
		header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}

	var null elf.Section64
	if count, ok := b.elf.get("xnum"); ok {
		header.Phnum = pnXNum
		null.Info = uint32(b.phnum)
		if count != "" {
			if err := set(&null, "sh_info", count); err != nil {
				return errors.Wrap(err, "xnum")
			}
		}
	} else if b.phnum >= pnXNum {
		return errors.Errorf("%d program headers: expected xnum", b.phnum)
	}
	if b.shnum > 0 {
		if b.shdrs == 0 {
			b.shdrs = b.cursor
		}
		b.sections = append([]elf.Section64{null}, b.sections...)
		header.Shoff = b.shdrs
		header.Shentsize = uint16(b.sizeof(elf.Section64{}, elf.Section32{}))
		header.Shnum = uint16(b.shnum)
		header.Shstrndx = b.shstrndx
	}
	if b.elf.override(&header, "e_"); b.elf.err != nil {
		return b.elf.err
	}

	if err := write(b, 0, &elf.Header32{}, []elf.Header64{header}); err != nil {
		return err
	}
	if err := write(b, b.phdrs, &elf.Prog32{}, b.progs); err != nil {
		return err
	}
	return write(b, b.shdrs, &elf.Section32{}, b.sections)
}

// sizeof returns the size of a header in the core's class.
func (b *builder) sizeof(header64, header32 any) uint64 {
	if b.class32 {
		return uint64(binary.Size(header32))
	}
	return uint64(binary.Size(header64))
}

// write puts a table of headers at an offset. In a 32-bit core each becomes a
// header32 first.
func write[H any](b *builder, at uint64, header32 any, table []H) error {
	var out bytes.Buffer
	for i := range table {
		var header any = &table[i]
		if b.class32 {
			if err := narrow(header32, header); err != nil {
				return errors.Wrapf(err, "header %d of the table at offset %#x", i, at)
			}
			header = header32
		}
		if err := binary.Write(&out, b.order, header); err != nil {
			return errors.WithStack(err)
		}
	}
	return b.put(at, out.Bytes())
}
