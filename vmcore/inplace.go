package vmcore

import (
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// Rules that every change in place keeps, and who forces them:
//
//   - one PT_NOTE, and no program header more: crash takes every header but
//     the first for memory, makedumpfile takes the last PT_NOTE for the notes;
//   - the notes below the lowest p_offset of a PT_LOAD: crash reads no further;
//   - the program header table where it was: makedumpfile computes its place;
//   - at every moment the file is the old core or the new one, whichever write
//     is the last before the power fails. So bytes are written where nothing
//     refers to them, and synced; then one write within one sector switches to
//     them, and is synced.

// A Placement is where the grown notes of a core go.
type Placement string

// The placements, cheapest first.
const (
	Slack Placement = "slack" // into the zero bytes behind the notes
	Clone Placement = "clone" // a new file that shares the old one's blocks, renamed over it
	Evict Placement = "evict" // into the room of the first PT_LOADs, which move to the end of the file
	Copy  Placement = "copy"  // a new file, renamed over the old one
)

// maxHeaderRoom bounds how far the notes may come to lie before the lowest
// p_offset: crash reads all that into memory as it starts.
const maxHeaderRoom = 256 << 20

// A Step is one thing done to the file. Steps are values so that a plan can be
// printed, and stopped after each of them by a test.
type Step struct {
	Op   Op
	Off  int64  // file offset in bytes; for OpSize the new size
	Len  int64  // bytes
	From int64  // for OpCopy
	Thin bool   // for OpCopy: holes may stay holes, for zeros are there
	Data []byte // for OpWrite
	Why  string
}

// Op is what a step does.
type Op string

// The operations. OpCopy's ranges do not overlap; OpZero leaves zeros (a hole
// where the file system can); OpReserve makes sure that writing there cannot
// fail for want of room.
const (
	OpWrite   Op = "write"
	OpCopy    Op = "copy"
	OpZero    Op = "zero"
	OpSize    Op = "size"
	OpReserve Op = "reserve"
	OpSync    Op = "sync"
)

func (s Step) String() string {
	switch s.Op {
	case OpSync:
		return "sync"
	case OpSize:
		return fmt.Sprintf("size %#x: %s", s.Off, s.Why)
	case OpCopy:
		return fmt.Sprintf("copy %#x bytes from %#x to %#x: %s", s.Len, s.From, s.Off, s.Why)
	}
	return fmt.Sprintf("%s %#x bytes at %#x: %s", s.Op, s.Len, s.Off, s.Why)
}

// An InPlace is a planned change of a core where it lies.
type InPlace struct {
	Placement Placement // Slack or Evict
	Steps     []Step

	commit int    // index of the first step that changes what something refers to
	undo   []Step // what takes back the steps before it
}

// String lists the steps, a line each.
func (p *InPlace) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

func (p *InPlace) add(steps ...Step) { p.Steps = append(p.Steps, steps...) }

func (p *InPlace) write(off int64, data []byte, why string) {
	p.add(Step{Op: OpWrite, Off: off, Len: int64(len(data)), Data: data, Why: why})
}

func (p *InPlace) zero(off, n int64, why string) {
	if n > 0 {
		p.add(Step{Op: OpZero, Off: off, Len: n, Why: why})
	}
}

func (p *InPlace) sync() { p.add(Step{Op: OpSync}) }

// PlanSlack plans to apply the splice within the room behind the notes. Where
// the change is at the notes' end it touches that end alone; else the whole
// new notes are written behind the old ones. It fails with an error that wraps
// [ErrNoPlace] where that cannot be done safely.
func (c *Core) PlanSlack(sp elfnote.Splice) (*InPlace, error) {
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	notes := c.notesExtent()
	start, size := int64(notes.off), int64(notes.size)
	end := start + size
	p := &InPlace{Placement: Slack}
	if sp.Off+sp.Del == size && (len(sp.Ins) == 0 || sp.Off == c.notes.Fill) {
		// Growing at the end, over zero fill at most; or only shrinking.
		if need := sp.Grow(); need > 0 {
			zeros, err := c.slack(need, sp.Ins[sp.Del:])
			if err != nil {
				return nil, err
			}
			if zeros < need {
				return nil, noSlack(zeros, need)
			}
		}
		return p, c.planTail(p, sp)
	}
	size += sp.Grow()
	place := roundUp(end, 4)
	zeros, err := c.slack(size+4, nil)
	if err != nil {
		return nil, err
	}
	if need := place - end + size; zeros < need {
		return nil, noSlack(zeros, need)
	}
	if err := c.planMove(p, sp, place); err != nil {
		return nil, err
	}
	p.undo = []Step{{Op: OpZero, Off: place, Len: size}}
	p.zero(start, end-start, "the old notes' place is free")
	p.sync()
	return p, nil
}

func noSlack(have, need int64) error {
	return errors.Wrapf(ErrNoPlace, "%#x bytes free behind the notes, %#x needed", have, need)
}

// planTail plans a change at the end of the notes.
func (c *Core) planTail(p *InPlace, sp elfnote.Splice) error {
	start := c.NotesOff()
	if sp.Del > 0 {
		p.commit = len(p.Steps)
		b, err := c.switchTo(start, sp.Off)
		if err != nil {
			return err
		}
		what := "the note is out"
		if len(sp.Ins) > 0 {
			what = "the zero fill is out"
		}
		p.write(c.progOff(c.Note), b, what)
		p.sync()
	}
	at := start + sp.Off
	if len(sp.Ins) == 0 {
		p.zero(at, sp.Del, "its bytes are free")
		p.sync()
		return nil
	}
	if sp.Del == 0 {
		// Taking it back restores what was there: zeros, or the remains of an
		// injection that was killed.
		old := make([]byte, len(sp.Ins))
		if err := c.read(old, at); err != nil {
			return err
		}
		p.undo = []Step{{Op: OpWrite, Off: at, Len: int64(len(old)), Data: old}}
	}
	p.write(at, sp.Ins, "the note, behind the others")
	p.sync()
	if sp.Del == 0 {
		p.commit = len(p.Steps)
	}
	b, err := c.switchTo(start, sp.Off+int64(len(sp.Ins)))
	if err != nil {
		return err
	}
	p.write(c.progOff(c.Note), b, "PT_NOTE takes it in")
	p.sync()
	return nil
}

// planMove plans to write the whole new notes to place, and to switch to them.
func (c *Core) planMove(p *InPlace, sp elfnote.Splice, place int64) error {
	start, size := c.NotesOff(), c.notes.Size
	if sp.Off > 0 {
		p.add(Step{Op: OpCopy, From: start, Off: place, Len: sp.Off, Why: "the notes before"})
	}
	if len(sp.Ins) > 0 {
		p.write(place+sp.Off, sp.Ins, "the new note")
	}
	if rest := sp.Off + sp.Del; rest < size {
		p.add(Step{Op: OpCopy, From: start + rest, Off: place + sp.Off + int64(len(sp.Ins)), Len: size - rest, Why: "the notes behind"})
	}
	p.sync()
	if p.commit == 0 {
		p.commit = len(p.Steps)
	}
	b, err := c.switchTo(place, size+sp.Grow())
	if err != nil {
		return err
	}
	p.write(c.progOff(c.Note), b, "PT_NOTE points to the new notes")
	p.sync()
	return nil
}

// checkSwitch makes sure that PT_NOTE's header can be rewritten by a write that
// a disk does whole or not at all, and that notes are apart from all else.
func (c *Core) checkSwitch() error {
	l := c.layout
	first := c.progOff(c.Note) + int64(l.pOff)
	last := c.progOff(c.Note) + int64(l.pMemsz) + int64(l.word) - 1
	if first/sectorSize != last/sectorSize {
		return errors.Wrapf(ErrNoPlace, "PT_NOTE's header at %#x crosses a sector", c.progOff(c.Note))
	}
	return c.checkDisjoint()
}

// switchTo returns PT_NOTE's program header for notes of size bytes at off.
func (c *Core) switchTo(off, size int64) ([]byte, error) {
	b := make([]byte, c.layout.phentsize)
	if err := c.read(b, c.progOff(c.Note)); err != nil {
		return nil, err
	}
	c.putNotes(b, uint64(off), uint64(size))
	return b, nil
}

// PlanEvict plans to move the first PT_LOADs in file order to the end of the
// file, and the notes with the splice applied into the room that they leave.
// It costs those segments (the kernel's text, some 50 MB on x86) whatever the
// size of the dump. It fails with an error that wraps [ErrNoPlace] where that
// cannot be done safely, or where crash could not read the result.
func (c *Core) PlanEvict(sp elfnote.Splice) (*InPlace, error) {
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	notes := c.notesExtent()
	start, size := int64(notes.off), int64(notes.size)
	room, err := c.evictable(size + sp.Grow())
	if err != nil {
		return nil, err
	}
	from, n := int64(room.off), int64(room.size)
	// As before within its page: mmap users and crash look at the alignment.
	to := roundUp(c.Size-from%pageSize, pageSize) + from%pageSize
	if uint64(to+n) > c.maxOffset() {
		return nil, errors.Wrapf(ErrNoPlace, "offset %#x is beyond what %v can have", to+n, c.Class)
	}
	p := &InPlace{Placement: Evict, undo: []Step{{Op: OpSize, Off: c.Size}}}
	p.add(Step{Op: OpSize, Off: to + n, Why: "room at the end of the file"},
		Step{Op: OpCopy, From: from, Off: to, Len: n, Thin: true, Why: "the first segments in the file"})
	p.sync()
	place := roundUp(from, 4)
	p.add(Step{Op: OpReserve, Off: place, Len: size + sp.Grow(), Why: "the new notes' place"})
	p.commit = len(p.Steps)
	if err := c.repoint(p, room, to); err != nil {
		return nil, err
	}
	p.sync()
	if err := c.planMove(p, sp, place); err != nil {
		return nil, err
	}
	p.zero(start, size, "the old notes' place is free")
	p.zero(from, place-from, "so is the rest of the room")
	newEnd := place + size + sp.Grow()
	p.zero(newEnd, from+n-newEnd, "so is the rest of the room")
	p.sync()
	return p, nil
}

// evictable returns the room of the PT_LOADs that must go for notes of size
// bytes to fit: the shortest range behind the notes, from the start of a
// segment to the end of one, that no other segment or section reaches into.
func (c *Core) evictable(size int64) (extent, error) {
	if !c.aligned() {
		return extent{}, errors.Wrap(ErrNoPlace, "p_offset fields are not aligned in the file")
	}
	notes := c.notesExtent()
	var segs []extent
	for i, p := range c.Progs {
		e := extent{p.Off, p.Filesz}
		if e.size > 0 && !e.within(c.Size) {
			return extent{}, errors.Wrapf(ErrNoPlace, "phdr[%d] ends beyond the file's %#x bytes", i, c.Size)
		}
		if i != c.Note && e.size > 0 && e.off >= notes.off+notes.size {
			segs = append(segs, e)
		}
	}
	if len(segs) == 0 {
		return extent{}, errors.Wrap(ErrNoPlace, "no PT_LOAD stands behind the notes")
	}
	slices.SortFunc(segs, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	room := extent{segs[0].off, uint64(size) + 3} // 3 to start at a multiple of 4
	for _, e := range segs {
		if e.off >= room.off+room.size {
			break
		}
		room.size = max(room.size, e.off+e.size-room.off)
	}
	if room.size > uint64(c.Size)/2 {
		return extent{}, errors.Wrapf(ErrNoPlace, "%#x bytes of %#x would have to move", room.size, c.Size)
	}
	return room, c.checkEviction(room)
}

// checkEviction makes sure that the room ends with a segment, that only
// PT_LOADs lie in it, and that one stays behind it: crash takes the lowest
// p_offset for the end of the headers, which it reads into memory.
func (c *Core) checkEviction(room extent) error {
	end := room.off + room.size
	table, err := c.sectionTable()
	if err != nil {
		return err
	}
	sections, err := c.sections()
	if err != nil {
		return err
	}
	for _, e := range append(sections, append(c.headers(), table)...) {
		if _, ok := e.end(); !ok || e.overlaps(room) {
			return errors.Wrapf(ErrNoPlace, "a section or table (%v) stands where the notes would go", e)
		}
	}
	whole, next := false, uint64(noOffset)
	for i, p := range c.Progs {
		switch {
		case i == c.Note || p.Filesz == 0:
		case p.Type != elf.PT_LOAD && (extent{p.Off, p.Filesz}).overlaps(room):
			return errors.Wrapf(ErrNoPlace, "phdr[%d], which is no PT_LOAD, stands where the notes would go", i)
		case p.Off+p.Filesz == end:
			whole = true
		case p.Off >= end:
			next = min(next, p.Off)
		}
	}
	switch {
	case next == noOffset:
		return errors.Wrap(ErrNoPlace, "no PT_LOAD would stay behind the notes, and crash needs one")
	case !whole:
		return errors.Wrapf(ErrNoPlace, "no PT_LOAD ends at %#x", end)
	case next > maxHeaderRoom:
		return errors.Wrapf(ErrNoPlace, "the next PT_LOAD begins at %#x, and crash reads all before it into memory", next)
	}
	return nil
}

// aligned reports whether no p_offset crosses a sector, so that writing many at
// once leaves each old or new.
func (c *Core) aligned() bool {
	word := uint64(c.layout.word)
	return (c.Phoff+uint64(c.layout.pOff))%word == 0 && c.Phentsize%word == 0
}

// repoint plans the writes that make all p_offsets into the room point to its
// copy; PT_LOADs without bytes in the file go along, since crash looks at
// their p_offset too.
func (c *Core) repoint(p *InPlace, room extent, to int64) error {
	for i := 0; i < len(c.Progs); i++ {
		first := i
		for i < len(c.Progs) && i != c.Note && c.Progs[i].Off-room.off < room.size {
			i++
		}
		if i == first {
			continue
		}
		b := make([]byte, (i-first)*int(c.Phentsize))
		if err := c.read(b, c.progOff(first)); err != nil {
			return err
		}
		for j := first; j < i; j++ {
			c.putWord(b[(j-first)*int(c.Phentsize):], c.layout.pOff, c.Progs[j].Off-room.off+uint64(to))
		}
		what := fmt.Sprintf("p_offset of phdr[%d]", first)
		if i > first+1 {
			what += fmt.Sprintf(" to phdr[%d]", i-1)
		}
		p.write(c.progOff(first), b, what)
	}
	return nil
}

// A medium is a file as the steps need it; tests put one in its place that
// stops, or that loses writes.
type medium interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	zero(off, n int64) error
	reserve(off, n int64) error
	copyWithin(ctx context.Context, s Step, progress func(int64)) error
}

// run carries the plan out. It stops for ctx, and takes back what it did, as
// long as nothing has changed that the core consists of; from then on it goes
// through with it.
func (p *InPlace) run(ctx context.Context, m medium, progress func(int64)) error {
	for i, s := range p.Steps {
		if i == p.commit {
			ctx = context.WithoutCancel(ctx)
		}
		err := ctx.Err()
		if err == nil {
			err = s.do(ctx, m, progress)
		}
		if err == nil {
			continue
		}
		err = errors.Wrap(err, s.String())
		if i >= p.commit {
			return errors.Wrap(err, "the core is whole and holds its old or its new notes, but was not finished")
		}
		for _, u := range append(p.undo, Step{Op: OpSync}) {
			if err2 := u.do(context.WithoutCancel(ctx), m, progress); err2 != nil {
				return errors.Wrapf(err, "the core is whole, but bytes that nothing refers to could not be taken back (%v)", err2)
			}
		}
		return err
	}
	return nil
}

func (s Step) do(ctx context.Context, m medium, progress func(int64)) error {
	switch s.Op {
	case OpWrite:
		_, err := m.WriteAt(s.Data, s.Off)
		return err
	case OpCopy:
		return m.copyWithin(ctx, s, progress)
	case OpZero:
		return m.zero(s.Off, s.Len)
	case OpReserve:
		return m.reserve(s.Off, s.Len)
	case OpSize:
		return m.Truncate(s.Off)
	default:
		return m.Sync()
	}
}
