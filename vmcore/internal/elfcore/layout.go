package elfcore

import (
	"debug/elf"
	"fmt"
	"sort"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// PlanCopy plans a copy of the core with the splice applied to its notes. It
// writes nothing. It fails with a [*plan.FormatError] where tables and notes
// share bytes, or where offsets leave what the class can express.
func (c *ELF) PlanCopy(sp elfnote.Splice) (*plan.Layout, error) {
	if err := c.checkChange(); err != nil {
		return nil, err
	}
	if s, ok := c.findSplit(); ok && sp.Grow() < 0 {
		return c.shrunkCopy(s, sp)
	}
	shift, err := c.shift(sp.Grow())
	if err != nil {
		return nil, err
	}
	return c.shiftedCopy(sp, shift)
}

// shiftedCopy plans a copy in which what stands after the notes moves by shift.
func (c *ELF) shiftedCopy(sp elfnote.Splice, shift int64) (*plan.Layout, error) {
	notes := c.notesExtent()
	start, end := int64(notes.Off), int64(notes.Off+notes.Size)
	newEnd := end + sp.Grow()
	if err := c.checkRoom(shift); err != nil {
		return nil, err
	}
	l := &plan.Layout{Shift: shift, Size: plan.Endless}
	if c.Size != plan.Endless {
		l.Size = max(c.Size+shift, newEnd)
	}
	fixes, err := c.fixes(sp, shift)
	if err != nil {
		return nil, err
	}
	l.Add(fixes, 0, start+sp.Off)
	l.Pieces = append(l.Pieces, plan.Piece{Lit: sp.Ins})
	l.Add(fixes, start+sp.Off+sp.Del, end)
	// From here on the copy's offset less shift is the original's.
	resume := max(end, newEnd-shift)
	l.Pieces = append(l.Pieces, plan.Piece{Zero: resume + shift - newEnd})
	l.Add(fixes, resume, c.Size)
	l.DropEmpty()
	return l, nil
}

// shift returns by how much what stands after the notes must move.
func (c *ELF) shift(grow int64) (int64, error) {
	page, err := c.Granule()
	if err != nil {
		return 0, err
	}
	late := c.sectionsAfter()
	switch {
	case late && grow > 0:
		return plan.RoundUp(grow, page), nil
	case late && grow < 0 && c.Size == plan.Endless:
		return 0, plan.OnePassErrorf(int64(c.Layout.eShoff), "e_shoff", fmt.Sprintf("%#x", c.Shoff),
			"section headers before the notes: those of a stream arrive too late to tell what lies after the notes")
	}
	zeros, err := c.slack(max(grow, 2*page), nil)
	if err != nil {
		return 0, err
	}
	switch {
	case grow > zeros:
		return plan.RoundUp(grow-zeros, page), nil
	case grow < 0 && late:
		return -min((zeros-grow)&^(page-1), plan.RoundUp(-grow, page)), nil
	case grow < 0 && zeros < page:
		return -((zeros - grow) &^ (page - 1)), nil
	}
	return 0, nil
}

// sectionsAfter reports whether section headers stand after the notes. A stream
// then cannot know whether the zeros after the notes are a section's. So that a
// file gives the same copy, its notes never grow into such zeros either.
// Section header 0, which PN_XNUM needs, is of no section.
func (c *ELF) sectionsAfter() bool {
	return c.Shnum > 1 && c.Shoff >= uint64(c.NotesOff())
}

// checkRoom makes sure that what moves has an offset afterwards. With ELF32 a
// core of nearly 4 GiB cannot take another page.
func (c *ELF) checkRoom(shift int64) error {
	if shift <= 0 {
		return nil
	}
	room := c.maxOffset() - uint64(shift)
	for i, p := range c.Progs {
		e := held(p)
		if end, ok := e.End(); p.Filesz > 0 && (!ok || end > room) {
			return plan.FormatErrorf(c.ProgOff(i), fmt.Sprintf("phdr[%d]", i), e.String(), "room for %#x bytes more below %#x", shift, c.maxOffset())
		}
	}
	for _, e := range []plan.Extent{{Off: c.Phoff, Size: c.Phnum * c.Phentsize}, {Off: c.Shoff, Size: c.Shnum * c.Shentsize}} {
		if end, ok := e.End(); !ok || end > room {
			return plan.FormatErrorf(0, "table", e.String(), "room for %#x bytes more below %#x", shift, c.maxOffset())
		}
	}
	return nil
}

// fixes returns the tables to be mended when the splice is applied to the notes
// and everything after them moves by shift, in file order.
func (c *ELF) fixes(sp elfnote.Splice, shift int64) ([]plan.Fix, error) {
	l, notes, grow := c.Layout, c.notesExtent(), sp.Grow()
	end := notes.Off + notes.Size
	moved := func(off uint64) uint64 {
		if off < end || off > c.maxOffset()-uint64(max(shift, 0)) {
			return off // no place in the file: all ones, or a lie
		}
		return off + uint64(shift)
	}
	mendProg := func(b []byte) {
		p := c.Prog(b)
		if p.Type == elf.PT_NOTE {
			c.putNotes(b, p.Off, uint64(int64(p.Filesz)+grow))
			return
		}
		if off := moved(p.Off); off != p.Off { // otherwise an unused header stays as it is
			c.PutWord(b, l.POff, off)
		}
	}
	note := plan.Fix{Extent: plan.Extent{Off: uint64(c.ProgOff(c.Note)), Size: c.Phentsize}, Entry: int64(c.Phentsize), Mend: mendProg}
	table, err := c.sectionTable()
	if err != nil {
		return nil, err
	}
	// gdb writes a section for the notes, note0, and eu-readelf uses that.
	mendSection := func(b []byte) {
		h := c.sectionHeader(b)
		e := plan.Extent{Off: h.word(b, l.shOffset), Size: h.word(b, l.shSize)}
		note := elf.SectionType(h.Order.Uint32(b[shType:])) == elf.SHT_NOTE && e.Off >= notes.Off && e.Within(int64(end))
		switch splice := notes.Off + uint64(sp.Off); {
		case note && (e == notes || e.Off < splice && e.Off+e.Size > splice):
			h.PutWord(b, l.shSize, e.Size+uint64(grow))
		case note && e.Off >= splice+uint64(sp.Del):
			h.PutWord(b, l.shOffset, e.Off+uint64(grow)) // of a later note
		default:
			h.PutWord(b, l.shOffset, moved(e.Off))
		}
	}
	sections := plan.Fix{Extent: table, Entry: int64(c.Shentsize), Mend: mendSection}
	f := []plan.Fix{note, sections}
	if shift != 0 {
		f = []plan.Fix{
			{Extent: plan.Extent{Off: 0, Size: l.Ehsize}, Entry: int64(l.Ehsize), Mend: func(b []byte) {
				c.PutWord(b, l.ePhoff, moved(c.word(b, l.ePhoff)))
				c.PutWord(b, l.eShoff, moved(c.word(b, l.eShoff)))
			}},
			{Extent: c.progTable(), Entry: int64(c.Phentsize), Mend: mendProg},
			sections,
		}
	}
	sort.Slice(f, func(i, j int) bool { return f[i].Off < f[j].Off })
	return f, nil
}

// putNotes writes the place and the size of the notes into the program header
// at the start of b. p_memsz grows and shrinks with p_filesz, and so stays
// equal or greater if it was; writers that leave it 0 get 0.
func (h *Header) putNotes(b []byte, off, size uint64) {
	l := h.Layout
	memsz, filesz := h.word(b, l.pMemsz), h.word(b, l.PFilesz)
	if now := memsz - filesz + size; memsz >= filesz && now >= size && now <= h.maxOffset() {
		h.PutWord(b, l.pMemsz, now)
	}
	h.PutWord(b, l.POff, off)
	h.PutWord(b, l.PFilesz, size)
}
