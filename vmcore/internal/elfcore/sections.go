package elfcore

import (
	"debug/elf"
	"encoding/binary"
	"unsafe"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// maxSections bounds the section header table. QEMU writes two to four.
const maxSections = 1 << 16

// shType is the offset of sh_type in a section header of either class.
const shType = unsafe.Offsetof(elf.Section64{}.Type)

// sectionHeader returns the header by which to read and mend the section header
// at the start of b: c's own, or one of the other byte order. QEMU writes its
// .shstrtab in the byte order of the machine that it runs on, whatever the
// guest's, and sh_type tells which: all types in use are small in their own
// byte order, or at least SHT_LOOS.
func (c *ELF) sectionHeader(b []byte) *Header {
	const small = 0xffff
	other := c.Header
	other.Order = binary.LittleEndian
	if c.Order == binary.ByteOrder(binary.LittleEndian) {
		other.Order = binary.BigEndian
	}
	own, swapped := c.Order.Uint32(b[shType:]), other.Order.Uint32(b[shType:])
	if own > small && own < uint32(elf.SHT_LOOS) && swapped <= small {
		return &other
	}
	return &c.Header
}

// sectionTable returns where the section header table lies, cut at the end of
// the file: a truncated QEMU dump may have lost it. Its size is 0 where the
// core has none, as all dumps by the kernel and makedumpfile.
func (c *ELF) sectionTable() (plan.Extent, error) {
	if c.Shoff == 0 || c.Shnum == 0 {
		return plan.Extent{}, nil
	}
	t := c.allSections()
	if _, ok := t.End(); !ok {
		return plan.Extent{}, plan.FormatErrorf(int64(c.Layout.eShoff), "section header table", t.String(), "e_shoff below 2^63")
	}
	t.Size = t.Clip(c.Size) / c.Shentsize * c.Shentsize
	return t, nil
}

// A section is where a section's bytes lie.
type section struct {
	plan.Extent
	typ elf.SectionType
}

// sections returns where each section's bytes lie; sections without any are
// left out.
func (c *ELF) sections() ([]section, error) {
	var s []section
	err := c.eachSection(func(b []byte) {
		h := c.sectionHeader(b)
		typ := elf.SectionType(h.Order.Uint32(b[shType:]))
		e := plan.Extent{Off: h.word(b, c.Layout.shOffset), Size: h.word(b, c.Layout.shSize)}
		if typ != elf.SHT_NULL && typ != elf.SHT_NOBITS && e.Size > 0 {
			s = append(s, section{e, typ})
		}
	})
	return s, err
}

// eachSection calls do with each section header. In a stream it skips a table
// after the notes, which has not arrived: the sections' bytes lie after memory
// then, too.
func (c *ELF) eachSection(do func(b []byte)) error {
	t, err := c.sectionTable()
	if err != nil || t.Size == 0 || c.Size == plan.Endless && int64(t.Off) >= c.NotesOff() {
		return err
	}
	buf := make([]byte, 256*c.Shentsize)
	for off := t.Off; off < t.Off+t.Size; off += uint64(len(buf)) {
		b := buf[:min(uint64(len(buf)), t.Off+t.Size-off)]
		if err := c.Read(b, int64(off)); err != nil {
			return errors.Wrap(err, "section headers")
		}
		for ; len(b) > 0; b = b[c.Shentsize:] {
			do(b)
		}
	}
	return nil
}
