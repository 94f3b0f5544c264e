package elfcore

import (
	"bytes"
	"context"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// maxTail bounds what PlanEnd holds in memory and writes twice.
const maxTail = 32 << 20

// PlanEnd plans to apply the splice to notes that stand after all memory, as in
// a process's core by gdb: nothing follows them but section headers and their
// names. The result is what a copy gives. All from the notes on is written
// after the end of the file first. One write within the file's first sector, of
// e_shoff and PT_NOTE's program header, switches to it. Then it is written
// where a copy has it, another such write switches there, and the rest is cut
// off. The error wraps [plan.ErrNoPlace] if that cannot be done.
func (c *ELF) PlanEnd(sp elfnote.Splice) (*plan.InPlace, error) {
	if err := c.checkTail(); err != nil {
		return nil, err
	}
	l, err := c.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	start, end := c.NotesOff(), c.NotesOff()+c.notes.Size
	if max(c.Size, l.Size)-start > maxTail {
		return nil, errors.Wrapf(plan.ErrNoPlace, "%#x bytes would have to be written anew", max(c.Size, l.Size)-start)
	}
	away := plan.RoundUp(max(c.Size, l.Size)-start, plan.PageSize) // what lies that far off stays as before within its page
	tail, err := c.tail(l)
	if err != nil {
		return nil, err
	}
	if uint64(start+away)+uint64(len(tail)) > c.maxOffset() {
		return nil, errors.Wrapf(plan.ErrNoPlace, "offset %#x is beyond what %v can have", start+away, c.Class)
	}
	shoff := c.Shoff
	if shoff >= uint64(end) {
		shoff += uint64(l.Shift)
	}
	here, err := c.tailSwitch(shoff, start, c.notes.Size+sp.Grow())
	if err != nil {
		return nil, err
	}
	far, farOff := bytes.Clone(tail), shoff
	if c.Shnum > 0 {
		farOff += uint64(away)
		c.moveSections(far, shoff-uint64(start), plan.Extent{Off: uint64(start), Size: uint64(len(tail))}, uint64(away))
	}
	there, err := c.tailSwitch(farOff, start+away, c.notes.Size+sp.Grow())
	if err != nil {
		return nil, err
	}
	at := int64(c.Layout.eShoff)

	p := &plan.InPlace{Placement: plan.End, Undo: []plan.Step{{Op: plan.OpSize, Off: c.Size}}}
	p.Write(start+away, far, "the new notes, and the section headers after them")
	p.Sync()
	p.CommitHere()
	p.Write(at, there, "e_shoff and PT_NOTE point to them")
	p.Sync()
	p.Tidy = len(p.Steps)
	p.Write(start, tail, "the same where the old notes were")
	p.Sync()
	p.Write(at, here, "e_shoff and PT_NOTE point there")
	p.Sync()
	p.Add(plan.Step{Op: plan.OpSize, Off: start + int64(len(tail)), Why: "the others' place is free"})
	p.Sync()
	return p, nil
}

// moveSections adds to the offsets of the sections that lie in old. Their
// headers stand in tail, from at on.
func (c *ELF) moveSections(tail []byte, at uint64, old plan.Extent, by uint64) {
	table := tail[at:]
	for range c.Shnum {
		h := c.sectionHeader(table)
		if off := h.word(table, c.Layout.shOffset); off >= old.Off && off < old.Off+old.Size {
			h.PutWord(table, c.Layout.shOffset, off+by)
		}
		table = table[c.Shentsize:]
	}
}

// checkTail makes sure that memory lies before the notes and section headers
// after them, and that one sector holds all that says where both are.
func (c *ELF) checkTail() error {
	if err := c.checkChange(); err != nil {
		return err
	}
	note, start := c.ProgOff(c.Note), uint64(c.NotesOff())
	switch {
	case note+int64(c.Layout.Phentsize) > plan.SectorSize || note < int64(c.Layout.eShoff):
		return errors.Wrapf(plan.ErrNoPlace, "PT_NOTE's header at %#x is not in the file's first sector", note)
	case c.Shnum > 0 && c.Shoff < start:
		return errors.Wrap(plan.ErrNoPlace, "the section headers stand before the notes")
	case c.Phoff > start:
		return errors.Wrap(plan.ErrNoPlace, "the program headers stand after the notes")
	case c.Claimed() > c.Size:
		return errors.Wrap(plan.ErrNoPlace, "the file is truncated")
	}
	for i, p := range c.Progs {
		if end, ok := held(p).End(); i != c.Note && hasPlace(p) && (!ok || end > start) {
			return errors.Wrapf(plan.ErrNoPlace, "phdr[%d] stands after the notes", i)
		}
	}
	return nil
}

// tail returns the copy's bytes from the notes on.
func (c *ELF) tail(l *plan.Layout) ([]byte, error) {
	start := c.NotesOff()
	part := &plan.Layout{}
	for p := range l.All() {
		if p.N > 0 {
			skip := min(max(start-p.Src, 0), p.N)
			p.Src, p.N = p.Src+skip, p.N-skip
		}
		if p.Size() > 0 {
			part.Pieces = append(part.Pieces, p)
		}
	}
	var b bytes.Buffer
	r := io.NewSectionReader(c.R, start, c.Size-start)
	s := &plan.Streamer{Ctx: context.Background(), W: &b, R: r, In: start, Buf: make([]byte, plan.BufSize)}
	err := s.Run(part)
	if err == nil && int64(b.Len()) != l.Size-start {
		err = plan.ErrChanged
	}
	return b.Bytes(), err
}

// tailSwitch returns the file's bytes from e_shoff to the end of PT_NOTE's
// program header, with section headers at shoff and notes of size bytes at off.
func (c *ELF) tailSwitch(shoff uint64, off, size int64) ([]byte, error) {
	b := make([]byte, c.ProgOff(c.Note)+int64(c.Layout.Phentsize))
	if err := c.Read(b, 0); err != nil {
		return nil, err
	}
	c.PutWord(b, c.Layout.eShoff, shoff)
	c.putNotes(b[c.ProgOff(c.Note):], uint64(off), uint64(size))
	return b[c.Layout.eShoff:], nil
}
