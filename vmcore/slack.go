package vmcore

import (
	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// PlanSlack plans to apply the splice within the room behind the notes. Where
// the change is at the notes' end it touches that end alone; else the whole
// new notes are written behind the old ones. It fails with an error that wraps
// [ErrNoPlace] where that cannot be done safely.
func (c *ELF) PlanSlack(sp elfnote.Splice) (*InPlace, error) {
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	notes := c.notesExtent()
	start, size := int64(notes.Off), int64(notes.Size)
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
	place := plan.RoundUp(end, c.notes.Align)
	zeros, err := c.slack(size+c.notes.Align, nil)
	if err != nil {
		return nil, err
	}
	if need := place - end + size; zeros < need {
		return nil, noSlack(zeros, need)
	}
	c.planMove(p, sp, place)
	p.CommitHere()
	if err := c.planSwitch(p, place, size, "PT_NOTE points to the new notes"); err != nil {
		return nil, err
	}
	p.Undo = []Step{{Op: OpZero, Off: place, Len: size}}
	p.Tidy = len(p.Steps)
	p.Zero(start, end-start, "the old notes' place is free")
	p.Sync()
	return p, nil
}

func noSlack(have, need int64) error {
	return errors.Wrapf(ErrNoPlace, "%#x bytes free behind the notes, %#x needed", have, need)
}

// planTail plans a change at the end of the notes.
func (c *ELF) planTail(p *InPlace, sp elfnote.Splice) error {
	start := c.NotesOff()
	if sp.Del > 0 {
		what := "the note is out"
		if len(sp.Ins) > 0 {
			what = "the zero fill is out"
		}
		p.CommitHere()
		if err := c.planSwitch(p, start, sp.Off, what); err != nil {
			return err
		}
	}
	at := start + sp.Off
	if len(sp.Ins) == 0 {
		p.Tidy = len(p.Steps)
		p.Zero(at, sp.Del, "its bytes are free")
		p.Sync()
		return nil
	}
	if sp.Del == 0 {
		// Taking it back restores what was there: zeros, or the remains of an
		// injection that was killed.
		old := make([]byte, len(sp.Ins))
		if err := c.read(old, at); err != nil {
			return err
		}
		p.Undo = []Step{{Op: OpWrite, Off: at, Len: int64(len(old)), Data: old}}
	}
	p.Write(at, sp.Ins, "the note, behind the others")
	p.Sync()
	if sp.Del == 0 {
		p.CommitHere()
	}
	return c.planSwitch(p, start, sp.Off+int64(len(sp.Ins)), "PT_NOTE takes it in")
}

// planMove plans to write the whole new notes to place.
func (c *ELF) planMove(p *InPlace, sp elfnote.Splice, place int64) {
	start, size := c.NotesOff(), c.notes.Size
	if sp.Off > 0 {
		p.Add(Step{Op: OpCopy, From: start, Off: place, Len: sp.Off, Why: "the notes before"})
	}
	if len(sp.Ins) > 0 {
		p.Write(place+sp.Off, sp.Ins, "the new note")
	}
	if rest := sp.Off + sp.Del; rest < size {
		p.Add(Step{Op: OpCopy, From: start + rest, Off: place + sp.Off + int64(len(sp.Ins)), Len: size - rest, Why: "the notes behind"})
	}
	p.Sync()
}

// planSwitch plans to make PT_NOTE point to notes of size bytes at place.
func (c *ELF) planSwitch(p *InPlace, place, size int64, why string) error {
	b, err := c.switchTo(place, size)
	if err != nil {
		return err
	}
	p.Write(c.progOff(c.Note), b, why)
	p.Sync()
	return nil
}

// checkSwitch makes sure that PT_NOTE's header can be rewritten by a write that
// a disk does whole or not at all, and that notes are apart from all else.
func (c *ELF) checkSwitch() error {
	l := c.layout
	first := c.progOff(c.Note) + int64(l.pOff)
	last := c.progOff(c.Note) + int64(l.pMemsz) + int64(l.word) - 1
	if first/plan.SectorSize != last/plan.SectorSize {
		return errors.Wrapf(ErrNoPlace, "PT_NOTE's header at %#x crosses a sector", c.progOff(c.Note))
	}
	sections, err := c.sections()
	if err != nil {
		return err
	}
	for _, s := range sections {
		if s.Overlaps(c.notesExtent()) {
			return errors.Wrapf(ErrNoPlace, "a section (%v) holds notes: its header would have to change in the same write", s.Extent)
		}
	}
	return c.checkChange()
}

// switchTo returns PT_NOTE's program header for notes of size bytes at off.
func (c *ELF) switchTo(off, size int64) ([]byte, error) {
	if uint64(off+size) > c.maxOffset() {
		return nil, errors.Wrapf(ErrNoPlace, "offset %#x is beyond what %v can have", off+size, c.Class)
	}
	b := make([]byte, c.layout.phentsize)
	if err := c.read(b, c.progOff(c.Note)); err != nil {
		return nil, err
	}
	c.putNotes(b, uint64(off), uint64(size))
	return b, nil
}
