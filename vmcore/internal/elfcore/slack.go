package elfcore

import (
	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// PlanSlack plans to apply the splice within the room after the notes. It fails
// with an error that wraps [plan.ErrNoPlace] where that cannot be done safely.
func (c *ELF) PlanSlack(sp elfnote.Splice) (*plan.InPlace, error) {
	if err := c.checkSwitch(); err != nil {
		return nil, err
	}
	return plan.PlanSlack(holder{c}, sp)
}

// A holder is the [plan.Holder] of an ELF core.
type holder struct{ *ELF }

func (h holder) Align() int64   { return h.notes.Align }
func (h holder) Header() string { return "PT_NOTE" }

func (h holder) Room(limit int64, will []byte) (int64, error) { return h.slack(limit, will) }

// Switch returns PT_NOTE's program header for the new notes.
func (h holder) Switch(place int64, sp elfnote.Splice) (int64, []byte, error) {
	b, err := h.switchTo(place, h.notes.Size+sp.Grow())
	return h.ProgOff(h.Note), b, err
}

// checkSwitch makes sure that PT_NOTE's header can be rewritten by a write that
// a disk does whole or not at all, and that notes are apart from all else.
func (c *ELF) checkSwitch() error {
	l := c.Layout
	first := c.ProgOff(c.Note) + int64(l.POff)
	last := c.ProgOff(c.Note) + int64(l.pMemsz) + int64(l.word) - 1
	if first/plan.SectorSize != last/plan.SectorSize {
		return errors.Wrapf(plan.ErrNoPlace, "PT_NOTE's header at %#x crosses a sector", c.ProgOff(c.Note))
	}
	sections, err := c.sections()
	if err != nil {
		return err
	}
	for _, s := range sections {
		if s.Overlaps(c.notesExtent()) {
			return errors.Wrapf(plan.ErrNoPlace, "a section (%v) holds notes: its header would have to change in the same write", s.Extent)
		}
	}
	return c.checkChange()
}

// switchTo returns PT_NOTE's program header for notes of size bytes at off.
func (c *ELF) switchTo(off, size int64) ([]byte, error) {
	if uint64(off+size) > c.maxOffset() {
		return nil, errors.Wrapf(plan.ErrNoPlace, "offset %#x is beyond what %v can have", off+size, c.Class)
	}
	b := make([]byte, c.Layout.Phentsize)
	if err := c.Read(b, c.ProgOff(c.Note)); err != nil {
		return nil, err
	}
	c.putNotes(b, uint64(off), uint64(size))
	return b, nil
}
