package vmcore

import (
	"debug/elf"

	"github.com/pkg/errors"
)

// maxSections bounds the section header table. QEMU writes two to four.
const maxSections = 1 << 16

// sectionTable returns where the section header table lies, cut at the end of
// the file: a truncated QEMU dump may have lost it. Its size is 0 where the
// core has none, as all dumps by the kernel and makedumpfile.
func (c *ELF) sectionTable() (extent, error) {
	if c.Shoff == 0 || c.Shnum == 0 {
		return extent{}, nil
	}
	t := extent{c.Shoff, c.Shnum * c.Shentsize}
	if _, ok := t.end(); !ok {
		return extent{}, formatErr(int64(c.layout.eShoff), "section header table", t.String(), "e_shoff below 2^63")
	}
	t.size = t.clip(c.Size) / c.Shentsize * c.Shentsize
	return t, nil
}

// sections returns where each section's bytes lie. Sections without any are
// left out, and so are all of them where the table has not come yet in a
// stream: it lies behind memory then, and so do the sections' bytes.
func (c *ELF) sections() ([]extent, error) {
	t, err := c.sectionTable()
	if err != nil || t.size == 0 || c.Size == endless && int64(t.off) >= c.NotesOff() {
		return nil, err
	}
	var s []extent
	buf := make([]byte, 256*c.Shentsize)
	for off := t.off; off < t.off+t.size; off += uint64(len(buf)) {
		b := buf[:min(uint64(len(buf)), t.off+t.size-off)]
		if err := c.read(b, int64(off)); err != nil {
			return nil, errors.Wrap(err, "section headers")
		}
		for ; len(b) > 0; b = b[c.Shentsize:] {
			typ := elf.SectionType(c.Order.Uint32(b[4:]))
			e := extent{c.word(b, c.layout.shOffset), c.word(b, c.layout.shSize)}
			if typ != elf.SHT_NULL && typ != elf.SHT_NOBITS && e.size > 0 {
				s = append(s, e)
			}
		}
	}
	return s, nil
}
