package kdump

import (
	"bytes"
	"fmt"
	"math"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// Rules that changes in place of a kdump-compressed dump keep, besides those of
// package plan, and who forces them:
//
//   - the notes may lie anywhere, but VMCOREINFO moves along with them:
//     makedumpfile, when it filters the dump again, computes its place from the
//     distance between the two;
//   - not beyond the sub header's blocks in a packed 32-bit dump: libkdumpfile
//     takes it for a padded one then;
//   - nor in a split dump: makedumpfile --reassemble copies notes to the offset
//     that they had, which page data has in the dump that it makes.

// PlanInPlace implements vmcore.Core: by Slack and End.
func (c *Dump) PlanInPlace(pl plan.Placement, sp elfnote.Splice) (*plan.InPlace, error) {
	if err := c.checkSplice(sp); err != nil {
		return nil, err
	}
	switch pl {
	case plan.Slack:
		return plan.PlanSlack(holder{c}, sp)
	case plan.End:
		return c.planEnd(sp)
	}
	return nil, errors.Wrapf(plan.ErrNoPlace, "a compressed dump cannot change by %s", pl)
}

// checkSplice makes sure that the notes can be changed, and that the new ones'
// size can be expressed.
func (c *Dump) checkSplice(sp elfnote.Splice) error {
	if err := c.changeable(); err != nil {
		return err
	}
	if size := c.notes.Size + sp.Grow(); c.ABI.word == 4 && size > math.MaxUint32 {
		return plan.FormatErrorf(c.SubOff()+c.ABI.Note+8, "size_note", fmt.Sprintf("%#x", size), "at most %#x", uint32(math.MaxUint32))
	}
	return nil
}

// A holder is the [plan.Holder] of a kdump-compressed dump.
type holder struct{ *Dump }

func (h holder) Align() int64   { return 4 }
func (h holder) Header() string { return "the sub header" }

func (h holder) Room(limit int64, will []byte) (int64, error) {
	return h.slack(h.NotesOff()+h.notes.Size, limit, will)
}

// planEnd plans to put the notes with the splice applied at the end of the
// file. It costs the notes alone, whatever the size of the dump.
func (c *Dump) planEnd(sp elfnote.Splice) (*plan.InPlace, error) {
	switch {
	case c.Split:
		return nil, errors.Wrap(plan.ErrNoPlace, "a piece of a split dump: makedumpfile --reassemble would put page data where the notes are")
	case c.ABI.packed:
		return nil, errors.Wrap(plan.ErrNoPlace, "a 32-bit x86 dump: libkdumpfile finds VMCOREINFO only before the bitmaps")
	}
	if err := c.CheckWhole(); err != nil {
		return nil, err
	}
	p := &plan.InPlace{Placement: plan.End, Undo: []plan.Step{{Op: plan.OpSize, Off: c.Size}}}
	if c.NotesOff()+c.notes.Size == c.Size && c.NotesOff() >= c.DescOff() && plan.AtEnd(holder{c}, sp) && sp.Del == 0 {
		return p, plan.PlanTail(holder{c}, p, sp)
	}
	return p, plan.PlanMove(holder{c}, p, sp, plan.RoundUp(c.Size, 4))
}

// CheckWhole makes sure that no descriptor leads beyond the end of the file:
// the page would then be read from the notes that go there. Page data lies in
// the order of descriptors, so the last ones tell.
func (c *Dump) CheckWhole() error {
	if n, ok := c.GuessPages(); ok && c.checkLast(n) == nil {
		return nil
	}
	x := c.Index()
	if x.err != nil || c.held(x) < x.Pages() {
		return errors.Wrapf(plan.ErrNoPlace, "the file is truncated: %#x bytes end before the page data", c.Size)
	}
	return c.checkLast(x.Pages())
}

// GuessPages derives the number of descriptors from the offset in the first,
// because to read the bitmap costs 32 MiB for each TiB of memory. Writers put
// page data directly after the descriptors, makedumpfile and QEMU with a page
// of zeros before it, for all pages that are zero. A page's size is no multiple
// of a descriptor's, so only one of the two counts is possible. If the guess is
// too large, checkLast takes page data for descriptors and fails. The guess is
// too small only if the first descriptor leads into the descriptors themselves.
func (c *Dump) GuessPages() (n uint64, ok bool) {
	b := make([]byte, plan.DescSize)
	if c.Read(b, c.DescOff()) != nil {
		return 0, false
	}
	off, descs := c.Desc(b).Data.Off, uint64(c.DescOff())
	if off <= descs || off > uint64(c.Size) {
		return 0, false
	}
	size := off - descs
	if size%plan.DescSize != 0 && size > uint64(c.BlockSize) {
		size -= uint64(c.BlockSize)
	}
	return size / plan.DescSize, size%plan.DescSize == 0
}

// checkLast looks at the last of n descriptors, and at those before as long as
// all lead to the same data: pages of zeros share theirs, which comes first.
func (c *Dump) checkLast(n uint64) error {
	r := c.pages.get(c)
	defer c.pages.put(r)
	shared, first := true, uint64(0)
	for end := n; end > 0 && shared; end -= min(end, LastDescs) {
		for i := end - min(end, LastDescs); i < end; i++ {
			d, off, err := r.descriptor(i)
			if err != nil {
				return err
			}
			if d.Data.Off != 0 && !d.Data.Within(c.Size) {
				return errors.Wrapf(plan.ErrNoPlace, "the file is truncated: page descriptor %d at %#x leads to %v, the file has %#x bytes", i, off, d.Data, c.Size)
			}
			if first == 0 {
				first = d.Data.Off
			}
			shared = shared && d.Data.Off == first
		}
	}
	return nil
}

// LastDescs is how many descriptors checkLast looks at, at least.
const LastDescs = 4096

// Switch returns the write of offset and size of VMCOREINFO and of the notes,
// which lie side by side in the first sector of a block.
func (h holder) Switch(place int64, sp elfnote.Splice) (int64, []byte, error) {
	info, err := h.movedInfo(sp, place)
	if err != nil {
		return 0, nil, err
	}
	first, end := h.ABI.Info, h.ABI.Note+8+int64(h.ABI.word)
	b := make([]byte, end-first)
	if err := h.Read(b, h.SubOff()+first); err != nil {
		return 0, nil, err
	}
	h.PutExtent(b, info)
	h.PutExtent(b[h.ABI.Note-first:], h.movedNotes(sp, place))
	return h.SubOff() + first, b, nil
}

// movedNotes returns where the notes are once the splice is applied and they
// lie at place. If none are left, that is nowhere.
func (c *Dump) movedNotes(sp elfnote.Splice, place int64) plan.Extent {
	if size := c.notes.Size + sp.Grow(); size > 0 {
		return plan.Extent{Off: uint64(place), Size: uint64(size)}
	}
	return plan.Extent{}
}

// movedInfo returns where VMCOREINFO is once the splice is applied and the
// notes lie at place. Where it goes with its note, its size becomes 0.
func (c *Dump) movedInfo(sp elfnote.Splice, place int64) (plan.Extent, error) {
	if c.apart().Size > 0 {
		return c.Info, nil
	}
	if c.Info.Size > 0 {
		rel := int64(c.Info.Off - c.Note.Off)
		switch {
		case rel+int64(c.Info.Size) <= sp.Off:
			return plan.Extent{Off: uint64(place + rel), Size: c.Info.Size}, nil
		case rel >= sp.Off+sp.Del:
			return plan.Extent{Off: uint64(place + rel + sp.Grow()), Size: c.Info.Size}, nil
		}
	}
	at := min(plan.RoundUp(sp.Off, 4)-sp.Off, int64(len(sp.Ins))) // the padding that the note before lacked
	ins := sp.Ins[at:]
	s, err := elfnote.Parse(bytes.NewReader(ins), int64(len(ins)), c.Order)
	if err != nil {
		return plan.Extent{}, err
	}
	if i, ok := s.Find(elfnote.VMCoreInfo, 0); ok {
		e := s.Notes[i]
		return plan.Extent{Off: uint64(place + sp.Off + at + e.DescOff), Size: uint64(e.DescSize)}, nil
	}
	if c.ABI == ABI32Padded {
		// libkdumpfile takes an offset of 0 for that of a packed dump.
		return plan.Extent{Off: uint64(place), Size: 0}, nil
	}
	return plan.Extent{}, nil
}

// slack returns the length of the room for notes from off on: bytes before the
// bitmaps that are zero, or equal will, and that nothing refers to; at most
// limit. It is 0 where off is beyond.
func (c *Dump) slack(off, limit int64, will []byte) (int64, error) {
	stop := min(c.BitmapOff(), c.Size, off+limit)
	for _, e := range []plan.Extent{c.apart(), c.Erase} {
		if end, ok := e.End(); !ok || int64(end) > off {
			stop = min(stop, max(int64(min(e.Off, math.MaxInt64)), off))
		}
	}
	return plan.Zeros(c.R, c.Size, off, max(stop, off), will)
}
