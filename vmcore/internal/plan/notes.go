package plan

import (
	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// MaxNotes bounds the notes of a core in bytes. Device dumps (NT_VMCOREDD) may
// have tens of MB each.
const MaxNotes = 1 << 30

// A Holder is what planning a change of the notes in place needs of a dump.
type Holder interface {
	// Notes returns the notes, and NotesOff where they lie in the file.
	Notes() *elfnote.Segment
	NotesOff() int64
	// Align returns the alignment of notes that move.
	Align() int64
	// Header names the header that locates the notes.
	Header() string
	// Room returns how many bytes after the notes, limit at most, are zero or
	// equal to will, and belong to nothing else.
	Room(limit int64, will []byte) (int64, error)
	// Read fills b from file offset off.
	Read(b []byte, off int64) error
	// Switch returns the one write, within a sector, after which the notes are
	// those at place, with the splice applied.
	Switch(place int64, sp elfnote.Splice) (off int64, b []byte, err error)
}

// AtEnd reports whether the splice changes only the end of the notes: it adds a
// note there, in place of zero fill at most, or it only removes.
func AtEnd(h Holder, sp elfnote.Splice) bool {
	n := h.Notes()
	return sp.Off+sp.Del == n.Size && (len(sp.Ins) == 0 || sp.Off == n.Fill)
}

// PlanSlack plans to apply the splice within the room after the notes. If the
// splice changes only their end, so does the plan; otherwise it writes all of
// the new notes after the old ones. The error wraps [ErrNoPlace] if the room is
// too small.
func PlanSlack(h Holder, sp elfnote.Splice) (*InPlace, error) {
	p := &InPlace{Placement: Slack}
	if AtEnd(h, sp) {
		if need := sp.Grow(); need > 0 {
			if err := checkRoom(h, need, sp.Ins[sp.Del:]); err != nil {
				return nil, err
			}
		}
		return p, PlanTail(h, p, sp)
	}
	size := h.Notes().Size + sp.Grow()
	end := h.NotesOff() + h.Notes().Size
	place := RoundUp(end, h.Align())
	if err := checkRoom(h, place-end+size, nil); err != nil {
		return nil, err
	}
	p.Undo = []Step{{Op: OpZero, Off: place, Len: size}}
	return p, PlanMove(h, p, sp, place)
}

func checkRoom(h Holder, need int64, will []byte) error {
	have, err := h.Room(need, will)
	if err == nil && have < need {
		err = errors.Wrapf(ErrNoPlace, "%#x bytes free after the notes, %#x needed", have, need)
	}
	return err
}

// PlanTail plans a change at the end of the notes.
func PlanTail(h Holder, p *InPlace, sp elfnote.Splice) error {
	start := h.NotesOff()
	at := start + sp.Off
	if sp.Del > 0 {
		what := "the note is out"
		if len(sp.Ins) > 0 {
			what = "the zero fill is out"
		}
		p.CommitHere()
		if err := PlanSwitch(h, p, elfnote.Splice{Off: sp.Off, Del: sp.Del}, start, what); err != nil {
			return err
		}
	}
	if len(sp.Ins) == 0 {
		p.Tidy = len(p.Steps)
		p.Zero(at, sp.Del, "its bytes are free")
		p.Sync()
		return nil
	}
	if sp.Del == 0 && p.Undo == nil {
		// Undoing restores what was there: zeros, or the remains of an
		// injection that was killed.
		old := make([]byte, len(sp.Ins))
		if err := h.Read(old, at); err != nil {
			return err
		}
		p.Undo = []Step{{Op: OpWrite, Off: at, Len: int64(len(old)), Data: old}}
	}
	p.Write(at, sp.Ins, "the note, after the others")
	p.Sync()
	if sp.Del == 0 {
		p.CommitHere()
	}
	return PlanSwitch(h, p, sp, start, h.Header()+" takes it in")
}

// PlanMove plans to write the whole new notes to place, where nothing is, and
// to switch to them.
func PlanMove(h Holder, p *InPlace, sp elfnote.Splice, place int64) error {
	PlanWrite(h, p, sp, place)
	p.CommitHere()
	if err := PlanSwitch(h, p, sp, place, h.Header()+" points to the new notes"); err != nil {
		return err
	}
	p.Tidy = len(p.Steps)
	p.Zero(h.NotesOff(), h.Notes().Size, "the old notes' place is free")
	p.Sync()
	return nil
}

// PlanWrite plans to write the whole new notes to place.
func PlanWrite(h Holder, p *InPlace, sp elfnote.Splice, place int64) {
	start, size := h.NotesOff(), h.Notes().Size
	if sp.Off > 0 {
		p.Add(Step{Op: OpCopy, From: start, Off: place, Len: sp.Off, Why: "the notes before"})
	}
	if len(sp.Ins) > 0 {
		p.Write(place+sp.Off, sp.Ins, "the new note")
	}
	if rest := sp.Off + sp.Del; rest < size {
		p.Add(Step{Op: OpCopy, From: start + rest, Off: place + sp.Off + int64(len(sp.Ins)), Len: size - rest, Why: "the notes after"})
	}
	p.Sync()
}

// PlanSwitch plans the write after which the notes are those at place, with the
// splice applied.
func PlanSwitch(h Holder, p *InPlace, sp elfnote.Splice, place int64, why string) error {
	off, b, err := h.Switch(place, sp)
	if err != nil {
		return err
	}
	p.Write(off, b, why)
	p.Sync()
	return nil
}
