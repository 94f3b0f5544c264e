package elfcore

import (
	"debug/elf"
	"fmt"
	"slices"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// findSplit returns how the core was split, by the headers alone: the last
// program header has the memory directly before that of the first segment in
// the file, and stands after all else; the notes lie in the room between, or
// still before it.
func (c *ELF) findSplit() (s split, ok bool) {
	last := len(c.Progs) - 1
	if last < 2 || c.Progs[last].Type != elf.PT_LOAD || c.isXnum() || c.Process() {
		return s, false
	}
	page, err := c.Granule()
	if err != nil {
		return s, false
	}
	if s.first, err = c.firstSegment(); err != nil || s.first == last {
		return s, false
	}
	rest, piece := c.Progs[s.first], c.Progs[last]
	s.n, s.to = int64(piece.Filesz), int64(piece.Off)
	s.from = int64(rest.Off) - s.n
	s.sections = c.Shnum > 0 && c.Shoff == uint64(s.to+s.n) && c.Phoff == c.Layout.Ehsize
	s.place = c.NotesOff()
	s.start = 2*s.from - s.place
	if s.place+c.notes.Size <= s.from {
		s.unfinished = true
		s.start, s.place = s.place, s.start
	}
	vaddr := piece.Vaddr
	if c.hasVaddr() {
		vaddr += piece.Filesz
	}
	h := c.joinedHeader(s)
	table, end := h.Phoff+h.Phnum*h.Phentsize, c.claimed(last, !s.sections)
	far := max(c.progEnd(c.Note), c.progEnd(s.first))
	if s.sections {
		far = table
	}
	switch {
	case s.n <= 0 || s.n%page != 0 || piece.Memsz != piece.Filesz,
		piece.Paddr+piece.Filesz != rest.Paddr || vaddr != rest.Vaddr,
		piece.Flags != rest.Flags || piece.Align != rest.Align,
		s.from <= 0 || s.place < s.from || s.start < int64(max(table, c.progEnd(last))),
		far > plan.SectorSize || !c.free(s):
		return s, false
	case c.Size == plan.Endless: // sections are not known yet
		return s, end <= s.to
	}
	return s, s.to == plan.RoundUp(end-s.from%page, page)+s.from%page &&
		c.Claimed() == c.Size && c.Claimed() == s.to+s.n+s.sectionsSize(c)
}

// sectionsSize returns the size of the section headers after the first pages.
func (s split) sectionsSize(c *ELF) int64 {
	if s.sections {
		return int64(c.Shnum * c.Shentsize)
	}
	return 0
}

// free reports whether no table and no section lies in the old notes' place or
// in the room.
func (c *ELF) free(s split) bool {
	tables, err := c.tables()
	room := plan.Extent{Off: uint64(s.start), Size: uint64(s.from + s.n - s.start)}
	return err == nil && !slices.ContainsFunc(tables, room.Overlaps)
}

// joins reports whether the splice undoes what the split was for: the notes
// fit where they were before it.
func (c *ELF) joins(s split, sp elfnote.Splice) bool {
	return !s.unfinished && sp.Grow() < 0 && c.notes.Size+sp.Grow() <= s.from-s.start
}

// joinedHeader returns the ELF header that the core had before it was split.
func (c *ELF) joinedHeader(s split) *Header {
	h := c.Header
	h.Phnum--
	if s.sections {
		h.Shoff = h.Layout.Ehsize
		h.Phoff = h.Shoff + h.Shnum*h.Shentsize
	}
	return &h
}

// joinedHead returns the start of the file with one program header less, as far
// as it changes in one write, and with notes of size bytes where they were.
func (c *ELF) joinedHead(s split, size int64) ([]byte, error) {
	h := c.joinedHeader(s)
	b, err := c.headFor(h)
	if err != nil {
		return nil, err
	}
	if s.sections {
		copy(b[h.Phoff:], b[c.Phoff:c.Phoff+h.Phnum*h.Phentsize])
		if err := c.Read(b[h.Shoff:h.Phoff], int64(c.Shoff)); err != nil {
			return nil, err
		}
	}
	if end := h.Phoff + h.Phnum*h.Phentsize; end < uint64(len(b)) {
		clear(b[end:])
	}
	c.cut(b[h.Phoff+uint64(s.first)*h.Phentsize:], -s.n)
	c.putNotes(b[h.Phoff+uint64(c.Note)*h.Phentsize:], uint64(s.start), uint64(size))
	return b, nil
}

// slot returns where the program header of the first pages stands, if not
// within the first n bytes of the file, which change in one write.
func (c *ELF) slot(n int) plan.Extent {
	if last := len(c.Progs) - 1; c.progEnd(last) > uint64(n) {
		return plan.Extent{Off: uint64(c.ProgOff(last)), Size: c.Phentsize}
	}
	return plan.Extent{}
}

// planJoin plans to undo a split: the notes go where they were, then the
// segment's first pages; then the headers change.
func (c *ELF) planJoin(s split, sp elfnote.Splice) (*plan.InPlace, error) {
	size := c.notes.Size + sp.Grow()
	head, err := c.joinedHead(s, size)
	if err != nil {
		return nil, err
	}
	old := make([]byte, size)
	if err := c.Read(old, s.start); err != nil {
		return nil, err
	}
	p := &plan.InPlace{Placement: plan.Split, Undo: []plan.Step{{Op: plan.OpWrite, Off: s.start, Len: size, Data: old}}}
	p.Add(plan.Step{Op: plan.OpReserve, Off: s.from, Len: s.n, Why: "the first segment's old place"})
	plan.PlanWrite(holder{c}, p, sp, s.start)
	p.CommitHere()
	if err := plan.PlanSwitch(holder{c}, p, sp, s.start, "PT_NOTE points to where the notes were"); err != nil {
		return nil, err
	}
	p.Add(plan.Step{Op: plan.OpCopy, From: s.to, Off: s.from, Len: s.n, Why: "the first pages of the first segment"})
	p.Sync()
	p.Write(0, head, "the headers make it one again")
	p.Sync()
	p.Tidy = len(p.Steps)
	slot := c.slot(len(head))
	p.Zero(int64(slot.Off), int64(slot.Size), "the program header after the others is free")
	p.Add(plan.Step{Op: plan.OpSize, Off: c.claimed(len(c.Progs)-1, !s.sections), Why: "the first pages' other place is free"})
	p.Sync()
	return p, nil
}

// shrunkCopy is PlanCopy of a split core for a splice by which the notes
// shrink. As long as they do not fit where they were, nothing shifts: a later
// removal needs the distances.
func (c *ELF) shrunkCopy(s split, sp elfnote.Splice) (*plan.Layout, error) {
	last := len(c.Progs) - 1
	switch {
	case c.Size == plan.Endless:
		return nil, plan.OnePassErrorf(c.ProgOff(last), fmt.Sprintf("p_offset of phdr[%d]", last), fmt.Sprintf("%#x", s.to),
			"%#x: the first pages of memory come last in the stream", s.from)
	case !c.joins(s, sp):
		return c.shiftedCopy(sp, 0)
	}
	size := c.notes.Size + sp.Grow()
	head, err := c.joinedHead(s, size)
	if err != nil {
		return nil, err
	}
	end := c.claimed(last, !s.sections)
	slot := c.slot(len(head))
	fixes := []plan.Fix{
		{Extent: plan.Extent{Size: uint64(len(head))}, Entry: int64(len(head)), Mend: func(b []byte) { copy(b, head) }},
		{Extent: slot, Entry: int64(slot.Size), Mend: func(b []byte) { clear(b) }},
	}
	l := &plan.Layout{Size: end, Joined: true}
	l.Add(fixes, 0, s.start)
	l.AddNotes(c.R, s.place, c.notes.Size, sp)
	l.Add(nil, s.start+size, s.from)
	l.Pieces = append(l.Pieces, plan.Piece{From: c.R, Src: s.to, N: s.n})
	l.Add(nil, s.from+s.n, end)
	l.DropEmpty()
	return l, nil
}
