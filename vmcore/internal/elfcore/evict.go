package elfcore

import (
	"debug/elf"
	"fmt"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// maxHeaderRoom bounds the lowest p_offset: crash reads everything before it
// into memory when it starts.
const maxHeaderRoom = 256 << 20

// PlanEvict plans to move the first PT_LOADs in file order to the end of the
// file, and the notes with the splice applied into the room that they leave.
// It costs those segments (the kernel's text, some 50 MB on x86) whatever the
// size of the dump. It fails with an error that wraps [plan.ErrNoPlace] where
// that cannot be done safely, or where crash could not read the result.
func (c *ELF) PlanEvict(sp elfnote.Splice) (*plan.InPlace, error) {
	if c.Process() {
		// eu-stack finds modules where segments that follow one another in
		// memory follow one another in the file.
		return nil, errors.Wrap(plan.ErrNoPlace, "a process's core, whose segments must keep their order")
	}
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	if end := c.Claimed(); end > c.Size {
		// Readers would take what is appended for what was cut off.
		return nil, errors.Wrapf(plan.ErrNoPlace, "the file ends at %#x, expected %#x by its headers", c.Size, end)
	}
	page, err := c.Granule()
	if err != nil {
		return nil, err
	}
	notes := c.notesExtent()
	start, size := int64(notes.Off), int64(notes.Size)
	room, err := c.evictable(size + sp.Grow())
	if err != nil {
		return nil, err
	}
	from, n := int64(room.Off), int64(room.Size)
	// At the same place in its page as before: crash, and programs that map the
	// file, look at the alignment.
	to := plan.RoundUp(c.Size-from%page, page) + from%page
	if uint64(to+n) > c.maxOffset() {
		return nil, errors.Wrapf(plan.ErrNoPlace, "offset %#x is beyond what %v can have", to+n, c.Class)
	}
	p := &plan.InPlace{Placement: plan.Evict, Undo: []plan.Step{{Op: plan.OpSize, Off: c.Size}}}
	p.Add(plan.Step{Op: plan.OpSize, Off: to + n, Why: "room at the end of the file"},
		plan.Step{Op: plan.OpCopy, From: from, Off: to, Len: n, Thin: true, Why: "the first segments in the file"})
	p.Sync()
	place := plan.RoundUp(from, c.notes.Align)
	p.Add(plan.Step{Op: plan.OpReserve, Off: place, Len: size + sp.Grow(), Why: "the new notes' place"})
	p.CommitHere()
	if err := c.repoint(p, room, to); err != nil {
		return nil, err
	}
	p.Sync()
	plan.PlanWrite(holder{c}, p, sp, place)
	if err := plan.PlanSwitch(holder{c}, p, sp, place, "PT_NOTE points to the new notes"); err != nil {
		return nil, err
	}
	p.Tidy = len(p.Steps)
	p.Zero(start, size, "the old notes' place is free")
	p.Zero(from, place-from, "so is the rest of the room")
	newEnd := place + size + sp.Grow()
	p.Zero(newEnd, from+n-newEnd, "so is the rest of the room")
	p.Sync()
	return p, nil
}

// evictable returns the room of the PT_LOADs that must go for notes of size
// bytes to fit: the shortest range after the notes, from the start of a
// segment to the end of one, that no other segment or section reaches into.
func (c *ELF) evictable(size int64) (plan.Extent, error) {
	if !c.aligned() {
		return plan.Extent{}, errors.Wrap(plan.ErrNoPlace, "p_offset fields are not aligned in the file")
	}
	notes := c.notesExtent()
	var segs []plan.Extent
	for i, p := range c.Progs {
		e := held(p)
		if e.Size > 0 && !e.Within(c.Size) {
			return plan.Extent{}, errors.Wrapf(plan.ErrNoPlace, "phdr[%d] ends beyond the file's %#x bytes", i, c.Size)
		}
		// One without bytes in the file goes along: crash looks at its
		// p_offset.
		if i != c.Note && hasPlace(p) && e.Off >= notes.Off+notes.Size && e.Within(c.Size) {
			segs = append(segs, e)
		}
	}
	if !slices.ContainsFunc(segs, func(e plan.Extent) bool { return e.Size > 0 }) {
		return plan.Extent{}, errors.Wrap(plan.ErrNoPlace, "no PT_LOAD stands after the notes")
	}
	sort.Slice(segs, func(i, j int) bool { return segs[i].Off < segs[j].Off })
	room := plan.Extent{Off: segs[0].Off, Size: uint64(size + c.notes.Align - 1)} // to start where notes may
	for _, e := range segs {
		if e.Off >= room.Off+room.Size {
			break
		}
		room.Size = max(room.Size, e.Off+e.Size-room.Off)
	}
	if room.Size > uint64(c.Size)/2 {
		return plan.Extent{}, errors.Wrapf(plan.ErrNoPlace, "%#x bytes of %#x would have to move", room.Size, c.Size)
	}
	return room, c.checkEviction(room)
}

// checkEviction makes sure that the room ends with a segment, that only
// PT_LOADs lie in it, and that one stays after it: crash takes the lowest
// p_offset for the end of the headers, which it reads into memory.
func (c *ELF) checkEviction(room plan.Extent) error {
	end := room.Off + room.Size
	own, err := c.tables()
	if err != nil {
		return err
	}
	for _, e := range own {
		if _, ok := e.End(); !ok || e.Overlaps(room) {
			return errors.Wrapf(plan.ErrNoPlace, "a section or table (%v) stands where the notes would go", e)
		}
	}
	whole, next := false, uint64(noOffset)
	for i, p := range c.Progs {
		switch {
		case i == c.Note || p.Filesz == 0:
		case p.Type != elf.PT_LOAD && held(p).Overlaps(room):
			return errors.Wrapf(plan.ErrNoPlace, "phdr[%d], which is no PT_LOAD, stands where the notes would go", i)
		case p.Off+p.Filesz == end:
			whole = true
		case p.Off >= end:
			next = min(next, p.Off)
		}
	}
	switch {
	case next == noOffset:
		return errors.Wrap(plan.ErrNoPlace, "no PT_LOAD would remain after the notes, and crash needs one")
	case !whole:
		return errors.Wrapf(plan.ErrNoPlace, "no PT_LOAD ends at %#x", end)
	case next > maxHeaderRoom:
		return errors.Wrapf(plan.ErrNoPlace, "the next PT_LOAD begins at %#x, and crash reads all before it into memory", next)
	}
	return nil
}

// aligned reports whether no p_offset crosses a sector, so that writing many at
// once leaves each old or new.
func (c *ELF) aligned() bool {
	word := uint64(c.Layout.word)
	return (c.Phoff+uint64(c.Layout.POff))%word == 0 && c.Phentsize%word == 0
}

// repoint plans the writes that make all p_offsets into the room point to its
// copy; PT_LOADs without bytes in the file go along, since crash looks at
// their p_offset too.
func (c *ELF) repoint(p *plan.InPlace, room plan.Extent, to int64) error {
	for i := 0; i < len(c.Progs); i++ {
		first := i
		for i < len(c.Progs) && i != c.Note && c.Progs[i].Off-room.Off < room.Size {
			i++
		}
		if i == first {
			continue
		}
		if uint64(i-first)*c.Phentsize > plan.MaxHead {
			return errors.Wrapf(plan.ErrNoPlace, "%d program headers would have to change", i-first)
		}
		b := make([]byte, (i-first)*int(c.Phentsize))
		if err := c.Read(b, c.ProgOff(first)); err != nil {
			return err
		}
		for j := first; j < i; j++ {
			c.PutWord(b[(j-first)*int(c.Phentsize):], c.Layout.POff, c.Progs[j].Off-room.Off+uint64(to))
		}
		what := fmt.Sprintf("p_offset of phdr[%d]", first)
		if i > first+1 {
			what += fmt.Sprintf(" to phdr[%d]", i-1)
		}
		p.Write(c.ProgOff(first), b, what)
	}
	return nil
}
