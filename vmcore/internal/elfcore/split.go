package elfcore

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// A split describes a core whose first segment in the file is in two parts, or
// will be: its first pages stand at the end of the file, as one more PT_LOAD,
// and the notes in their room.
//
//	before   | headers | notes | first segment           | ... |
//	after    | headers |.......| .. notes .. | the rest  | ... | first pages |
//
// The notes stand as far after the segment's old start as they stood before it.
// So a removal knows where they were, and restores the file byte for byte.
type split struct {
	first int   // index of the first segment in the file
	start int64 // where the notes were before
	place int64 // where they are in the room
	from  int64 // the room: the segment's old start
	n     int64 // and its size, whole pages
	to    int64 // where the segment's first pages are
	// QEMU has section headers before the program headers. They go after the
	// segment's first pages, and the program headers take their place: there
	// makedumpfile looks for them.
	sections bool
	// The power failed after the headers had changed, before the notes moved.
	unfinished bool
}

// PlanSplit plans to move the first pages of the first PT_LOAD in the file to
// its end, as a PT_LOAD of their own, and the notes with the splice applied
// into their room. It costs a few pages, whatever the size of the dump and of
// the segment. If the core is split already and the splice makes the notes as
// small as they were before that, it plans to join the two parts.
//
// The program header table must have room for one more entry: after it, or
// before it if section headers are there. Without that room no sequence of
// writes that a disk does whole would do: a second PT_LOAD needs the bytes of
// the first notes, while the segment still fills all the room there is for
// notes. It fails with an error that wraps [plan.ErrNoPlace] then, and where a
// reader could not read the result.
func (c *ELF) PlanSplit(sp elfnote.Splice) (*plan.InPlace, error) {
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	size := c.notes.Size + sp.Grow()
	s, ok := c.findSplit()
	switch {
	case ok && c.joins(s, sp):
		return c.planJoin(s, sp)
	case ok && s.unfinished && s.place+size <= s.from+s.n:
		p := &plan.InPlace{Placement: plan.Split, Undo: []plan.Step{}}
		p.CommitHere()
		return p, c.planNotes(p, s, sp, &c.Header)
	case ok:
		return nil, errors.Wrap(plan.ErrNoPlace, "the first segment is split already")
	case sp.Grow() <= 0:
		return nil, errors.Wrap(plan.ErrNoPlace, "the notes do not grow")
	}
	s, err := c.newSplit(size)
	if err != nil {
		return nil, err
	}
	return c.planSplit(s, sp)
}

// newSplit returns the split that notes of size bytes need.
func (c *ELF) newSplit(size int64) (split, error) {
	var s split
	if c.Process() {
		return s, errors.Wrap(plan.ErrNoPlace, "a process's core, whose segments must keep their order")
	}
	if end := c.Claimed(); end != c.Size {
		// A later removal could not distinguish bytes that no header knows of
		// from padding.
		return s, errors.Wrapf(plan.ErrNoPlace, "the file ends at %#x, expected %#x by its headers", c.Size, end)
	}
	page, err := c.Granule()
	if err != nil {
		return s, err
	}
	s.first, err = c.firstSegment()
	if err != nil {
		return s, err
	}
	p := c.Progs[s.first]
	s.start, s.from = c.NotesOff(), int64(p.Off)
	s.place = 2*s.from - s.start
	s.n = plan.RoundUp(s.place-s.from+size, page)
	s.to = plan.RoundUp(c.Size-s.from%page, page) + s.from%page
	s.sections = c.sectionsFirst()
	switch {
	case (s.place-s.start)%c.notes.Align != 0:
		return s, errors.Wrapf(plan.ErrNoPlace, "notes at %#x would lose their alignment", s.place)
	case uint64(s.n) >= p.Filesz:
		return s, errors.Wrapf(plan.ErrNoPlace, "phdr[%d] has %#x bytes, expected more than %#x", s.first, p.Filesz, s.n)
	case s.from+s.n > maxHeaderRoom:
		return s, errors.Wrapf(plan.ErrNoPlace, "the notes would end at %#x, and crash reads all before it into memory", s.from+s.n)
	case uint64(s.to+s.n)+c.Shnum*c.Shentsize > c.maxOffset():
		return s, errors.Wrapf(plan.ErrNoPlace, "offset %#x is beyond what %v can have", s.to+s.n, c.Class)
	case !c.free(s):
		return s, errors.Wrap(plan.ErrNoPlace, "a section or table stands where the notes are or would go")
	}
	return s, c.checkTable(s)
}

// firstSegment returns the index of the PT_LOAD directly after the notes, which
// must be the only one whose bytes begin in its first pages.
func (c *ELF) firstSegment() (int, error) {
	first := -1
	for i, p := range c.Progs {
		if i == c.Note || !hasPlace(p) {
			continue
		}
		if p.Type != elf.PT_LOAD || p.Filesz == 0 || p.Filesz > p.Memsz || p.Paddr+p.Memsz < p.Paddr {
			return 0, errors.Wrapf(plan.ErrNoPlace, "phdr[%d] is not a plain PT_LOAD with bytes in the file", i)
		}
		if first < 0 || p.Off < c.Progs[first].Off {
			first = i
		}
	}
	if first < 0 || int64(c.Progs[first].Off) < c.NotesOff()+c.notes.Size {
		return 0, errors.Wrap(plan.ErrNoPlace, "the notes are not before all memory")
	}
	e := plan.Extent{Off: c.Progs[first].Off, Size: c.Progs[first].Filesz}
	for i, p := range c.Progs {
		if i != first && i != c.Note && hasPlace(p) && e.Overlaps(held(p)) {
			return 0, errors.Wrapf(plan.ErrNoPlace, "phdr[%d] shares bytes with phdr[%d]", i, first)
		}
	}
	return first, nil
}

// sectionsFirst reports whether the section headers stand directly before the
// program headers, where these should be.
func (c *ELF) sectionsFirst() bool {
	return c.Shnum > 0 && c.Shoff == c.Layout.Ehsize && c.Phoff == c.Shoff+c.Shnum*c.Shentsize
}

// checkTable makes sure that one more program header has a place, and that one
// sector holds all that must change together.
func (c *ELF) checkTable(s split) error {
	h := c.splitHeader(s)
	end := h.Phoff + h.Phnum*h.Phentsize
	far := max(c.progEnd(c.Note), c.progEnd(s.first))
	if s.sections { // the whole table moves
		far = max(end, c.Phoff+c.Phnum*c.Phentsize)
	}
	switch {
	case h.Phnum >= pnXnum || c.isXnum():
		return errors.Wrapf(plan.ErrNoPlace, "%d program headers need PN_XNUM", h.Phnum)
	case far > plan.SectorSize:
		return errors.Wrapf(plan.ErrNoPlace, "program headers up to %#x would have to change in one write, expected %#x at most", far, plan.SectorSize)
	case end > uint64(s.start):
		return errors.Wrapf(plan.ErrNoPlace, "one more program header would end at %#x, after the notes' start at %#x", end, s.start)
	}
	if s.sections {
		return nil
	}
	slot := plan.Extent{Off: c.Phoff + c.Phnum*c.Phentsize, Size: c.Phentsize}
	used, err := c.Used()
	if err != nil {
		return err
	}
	for _, e := range used {
		if e.Overlaps(slot) {
			return errors.Wrapf(plan.ErrNoPlace, "no room for one more program header at %#x", slot.Off)
		}
	}
	b := make([]byte, slot.Size)
	if err := c.Read(b, int64(slot.Off)); err != nil {
		return err
	}
	will, err := c.piece(s)
	if err == nil && !bytes.Equal(b, make([]byte, len(b))) && !bytes.Equal(b, will) {
		err = errors.Wrapf(plan.ErrNoPlace, "the bytes after the program headers, at %#x, are not zero", slot.Off)
	}
	return err
}

// isXnum reports whether the number of program headers is in a section header.
func (c *ELF) isXnum() bool {
	b := make([]byte, 2)
	return c.Read(b, int64(c.Layout.EPhnum)) != nil || c.Order.Uint16(b) == pnXnum
}

// progEnd returns where program header i ends.
func (c *ELF) progEnd(i int) uint64 { return uint64(c.ProgOff(i)) + c.Phentsize }

// splitHeader returns the ELF header that the core has when it is split.
func (c *ELF) splitHeader(s split) *Header {
	h := c.Header
	h.Phnum++
	if s.sections {
		h.Phoff, h.Shoff = h.Layout.Ehsize, uint64(s.to+s.n)
	}
	return &h
}

// piece returns the program header of the segment's first pages.
func (c *ELF) piece(s split) ([]byte, error) {
	b := make([]byte, c.Phentsize)
	if err := c.Read(b, c.ProgOff(s.first)); err != nil {
		return nil, err
	}
	c.PutWord(b, c.Layout.POff, uint64(s.to))
	c.PutWord(b, c.Layout.PFilesz, uint64(s.n))
	c.PutWord(b, c.Layout.pMemsz, uint64(s.n))
	return b, nil
}

// cut changes the program header at the start of b, the first segment's, to
// that of the rest: n is how many bytes it loses at its start, or gains if it
// is less than 0. Addresses wrap as the fields do.
func (c *ELF) cut(b []byte, n int64) {
	l := c.Layout
	add := func(at uintptr, n int64) { c.PutWord(b, at, c.word(b, at)+uint64(n)) }
	add(l.POff, n)
	add(l.pPaddr, n)
	if c.hasVaddr() {
		add(l.pVaddr, n)
	}
	add(l.PFilesz, -n)
	add(l.pMemsz, -n)
}

// hasVaddr reports whether p_vaddr means anything: older QEMU leaves all 0.
func (c *ELF) hasVaddr() bool {
	return slices.ContainsFunc(c.Progs, func(p elf.ProgHeader) bool { return p.Type == elf.PT_LOAD && p.Vaddr != 0 })
}

// headFor returns the start of the file with those fields of h in the ELF
// header that a split changes. It ends after both tables of program headers,
// the old and h's, or at the end of the sector: one write changes all of it.
func (c *ELF) headFor(h *Header) ([]byte, error) {
	end := max(c.Phoff+c.Phnum*c.Phentsize, h.Phoff+h.Phnum*h.Phentsize)
	b := make([]byte, min(end, plan.SectorSize))
	if err := c.Read(b, 0); err != nil {
		return nil, err
	}
	h.PutWord(b, h.Layout.ePhoff, h.Phoff)
	h.PutWord(b, h.Layout.eShoff, h.Shoff)
	h.Order.PutUint16(b[h.Layout.EPhnum:], uint16(h.Phnum))
	return b, nil
}

// splitHead returns the start of the file with one more program header, as far
// as it changes in one write: within a sector.
func (c *ELF) splitHead(s split) ([]byte, error) {
	h := c.splitHeader(s)
	b, err := c.headFor(h)
	if err != nil {
		return nil, err
	}
	piece, err := c.piece(s)
	if err != nil {
		return nil, err
	}
	if s.sections {
		copy(b[h.Phoff:], b[c.Phoff:c.Phoff+c.Phnum*c.Phentsize])
		clear(b[h.Phoff+c.Phnum*c.Phentsize:])
	}
	if at := h.Phoff + c.Phnum*c.Phentsize; at < uint64(len(b)) {
		copy(b[at:], piece)
	}
	c.cut(b[h.Phoff+uint64(s.first)*h.Phentsize:], s.n)
	return b, nil
}

// planSplit plans the split: first all that nothing refers to yet; then the
// headers, with the old notes still in their place; then the notes, as for any
// other move.
func (c *ELF) planSplit(s split, sp elfnote.Splice) (*plan.InPlace, error) {
	head, err := c.splitHead(s)
	if err != nil {
		return nil, err
	}
	piece, err := c.piece(s)
	if err != nil {
		return nil, err
	}
	p := &plan.InPlace{Placement: plan.Split, Undo: []plan.Step{{Op: plan.OpSize, Off: c.Size}}}
	p.Add(plan.Step{Op: plan.OpSize, Off: s.to + s.n, Why: "room at the end of the file"},
		plan.Step{Op: plan.OpCopy, From: s.from, Off: s.to, Len: s.n, Thin: true, Why: "the first pages of the first segment"})
	if s.sections {
		b := make([]byte, c.Shnum*c.Shentsize)
		if err := c.Read(b, int64(c.Shoff)); err != nil {
			return nil, err
		}
		p.Write(s.to+s.n, b, "the section headers")
	}
	if slot := int64(c.Phoff + c.Phnum*c.Phentsize); !s.sections && slot+int64(len(piece)) > int64(len(head)) {
		old := make([]byte, len(piece))
		if err := c.Read(old, slot); err != nil {
			return nil, err
		}
		p.Undo = append(p.Undo, plan.Step{Op: plan.OpWrite, Off: slot, Len: int64(len(old)), Data: old})
		p.Write(slot, piece, "their program header")
	}
	p.Sync()
	p.Add(plan.Step{Op: plan.OpReserve, Off: s.place, Len: c.notes.Size + sp.Grow(), Why: "the new notes' place"})
	p.CommitHere()
	p.Write(0, head, "the headers take it in")
	p.Sync()
	return p, c.planNotes(p, s, sp, c.splitHeader(s))
}

// planNotes plans to move the notes into the room, which nothing refers to any
// more; h says where PT_NOTE's header is by then.
func (c *ELF) planNotes(p *plan.InPlace, s split, sp elfnote.Splice, h *Header) error {
	size := c.notes.Size + sp.Grow()
	plan.PlanWrite(holder{c}, p, sp, s.place)
	b, err := c.switchTo(s.place, size)
	if err != nil {
		return err
	}
	p.Write(int64(h.Phoff+uint64(c.Note)*h.Phentsize), b, "PT_NOTE points to the new notes")
	p.Sync()
	p.Tidy = len(p.Steps)
	p.Zero(s.start, c.notes.Size, "the old notes' place is free")
	p.Zero(s.from, s.place-s.from, "so is the rest of the room")
	p.Zero(s.place+size, s.from+s.n-s.place-size, "so is the rest of the room")
	p.Sync()
	return nil
}
