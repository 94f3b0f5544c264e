package vmcore

import (
	"bytes"
	"fmt"
	"math"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// Rules that changes in place of a kdump-compressed dump keep, beside those of
// package plan, and who forces them:
//
//   - the notes may lie anywhere, but VMCOREINFO moves along with them:
//     makedumpfile, when it filters the dump again, reckons its place from the
//     distance of the two;
//   - not beyond the sub header's blocks in a packed 32-bit dump: libkdumpfile
//     takes it for a padded one then;
//   - nor in a split dump: makedumpfile --reassemble copies notes to the offset
//     that they had, which page data has in the dump that it makes.

// PlanInPlace implements [Core]: by Slack and End.
func (c *KDump) PlanInPlace(pl Placement, sp elfnote.Splice) (*InPlace, error) {
	if err := c.checkSplice(sp); err != nil {
		return nil, err
	}
	switch pl {
	case Slack:
		return plan.PlanSlack(kdumpHolder{c}, sp)
	case End:
		return c.planEnd(sp)
	}
	return nil, errors.Wrapf(ErrNoPlace, "not in place by %s", pl)
}

// checkSplice makes sure that the notes can be changed, and that the new ones'
// size can be expressed.
func (c *KDump) checkSplice(sp elfnote.Splice) error {
	if err := c.changeable(); err != nil {
		return err
	}
	if size := c.notes.Size + sp.Grow(); c.abi.word == 4 && size > math.MaxUint32 {
		return plan.FormatErrorf(c.subOff()+c.abi.note+8, "size_note", fmt.Sprintf("%#x", size), "at most %#x", uint32(math.MaxUint32))
	}
	return nil
}

// A kdumpHolder is a kdump-compressed dump, as the planner of its notes sees it.
type kdumpHolder struct{ *KDump }

func (h kdumpHolder) Align() int64   { return 4 }
func (h kdumpHolder) Header() string { return "the sub header" }

func (h kdumpHolder) Read(b []byte, off int64) error { return h.read(b, off) }

func (h kdumpHolder) Room(limit int64, will []byte) (int64, error) {
	return h.slack(h.NotesOff()+h.notes.Size, limit, will)
}

// planEnd plans to put the notes with the splice applied at the end of the
// file. It costs the notes alone, whatever the size of the dump.
func (c *KDump) planEnd(sp elfnote.Splice) (*InPlace, error) {
	switch {
	case c.Split:
		return nil, errors.Wrap(ErrNoPlace, "a piece of a split dump: makedumpfile --reassemble would put page data where the notes are")
	case c.abi.packed:
		return nil, errors.Wrap(ErrNoPlace, "a 32-bit x86 dump: libkdumpfile finds VMCOREINFO only before the bitmaps")
	}
	if err := c.checkWhole(); err != nil {
		return nil, err
	}
	p := &InPlace{Placement: End, Undo: []Step{{Op: OpSize, Off: c.Size}}}
	if c.NotesOff()+c.notes.Size == c.Size && c.NotesOff() >= c.descOff() && plan.AtEnd(kdumpHolder{c}, sp) && sp.Del == 0 {
		return p, plan.PlanTail(kdumpHolder{c}, p, sp)
	}
	return p, plan.PlanMove(kdumpHolder{c}, p, sp, plan.RoundUp(c.Size, 4))
}

// checkWhole makes sure that no page's data would lie, by its descriptor, where
// the file ends: it would then be read out of the notes. Page data lies in the
// order of descriptors, so the last ones tell.
func (c *KDump) checkWhole() error {
	if n, ok := c.guessPages(); ok && c.checkLast(n) == nil {
		return nil
	}
	x := c.index()
	if x.err != nil || c.held(x) < x.pages() {
		return errors.Wrapf(ErrNoPlace, "the file is truncated: %#x bytes end before the page data", c.Size)
	}
	return c.checkLast(x.pages())
}

// guessPages takes the number of descriptors from where the first leads, for
// the bitmap that has it is 32 MiB to be read for each TiB of memory: writers
// put page data directly after the descriptors, makedumpfile and QEMU with a
// page of zeros before it, for all pages that are zero. A page's size being no
// multiple of a descriptor's, no two counts are possible. Too large a guess
// takes page data for descriptors, which checkLast finds out; too small a one
// would take a first descriptor that leads into the descriptors themselves.
func (c *KDump) guessPages() (n uint64, ok bool) {
	b := make([]byte, plan.DescSize)
	if c.read(b, c.descOff()) != nil {
		return 0, false
	}
	off, descs := c.desc(b).data.Off, uint64(c.descOff())
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
// all lead to the same data: pages of zeros share theirs, which lies in front.
func (c *KDump) checkLast(n uint64) error {
	r := c.pages.get(c)
	defer c.pages.put(r)
	shared, first := true, uint64(0)
	for end := n; end > 0 && shared; end -= min(end, lastDescs) {
		for i := end - min(end, lastDescs); i < end; i++ {
			d, off, err := r.descriptor(i)
			if err != nil {
				return err
			}
			if d.data.Off != 0 && !d.data.Within(c.Size) {
				return errors.Wrapf(ErrNoPlace, "the file is truncated: page descriptor %d at %#x leads to %v, the file has %#x bytes", i, off, d.data, c.Size)
			}
			if first == 0 {
				first = d.data.Off
			}
			shared = shared && d.data.Off == first
		}
	}
	return nil
}

// lastDescs is how many descriptors checkLast looks at, at least.
const lastDescs = 4096

// Switch returns the write of offset and size of VMCOREINFO and of the notes,
// which lie side by side in the first sector of a block.
func (h kdumpHolder) Switch(place int64, sp elfnote.Splice) (int64, []byte, error) {
	info, err := h.movedInfo(sp, place)
	if err != nil {
		return 0, nil, err
	}
	first, end := h.abi.info, h.abi.note+8+int64(h.abi.word)
	b := make([]byte, end-first)
	if err := h.read(b, h.subOff()+first); err != nil {
		return 0, nil, err
	}
	h.putExtent(b, info)
	h.putExtent(b[h.abi.note-first:], h.movedNotes(sp, place))
	return h.subOff() + first, b, nil
}

// movedNotes returns where the notes are once the splice is applied and they lie
// at place. If none are left, that is nowhere.
func (c *KDump) movedNotes(sp elfnote.Splice, place int64) plan.Extent {
	if size := c.notes.Size + sp.Grow(); size > 0 {
		return plan.Extent{Off: uint64(place), Size: uint64(size)}
	}
	return plan.Extent{}
}

// movedInfo returns where VMCOREINFO is once the splice is applied and the notes
// lie at place. Where it goes with its note, its size becomes 0.
func (c *KDump) movedInfo(sp elfnote.Splice, place int64) (plan.Extent, error) {
	if c.apart().Size > 0 {
		return c.info, nil
	}
	if c.info.Size > 0 {
		rel := int64(c.info.Off - c.note.Off)
		switch {
		case rel+int64(c.info.Size) <= sp.Off:
			return plan.Extent{Off: uint64(place + rel), Size: c.info.Size}, nil
		case rel >= sp.Off+sp.Del:
			return plan.Extent{Off: uint64(place + rel + sp.Grow()), Size: c.info.Size}, nil
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
	if c.abi == kdump32padded {
		// libkdumpfile takes an offset of 0 for that of a packed dump.
		return plan.Extent{Off: uint64(place), Size: 0}, nil
	}
	return plan.Extent{}, nil
}

// slack returns the length of the room for notes from off on: bytes before the
// bitmaps that are zero, or equal will, and that nothing refers to; at most
// limit. It is 0 where off is beyond.
func (c *KDump) slack(off, limit int64, will []byte) (int64, error) {
	stop := min(c.bitmapOff(), c.Size, off+limit)
	for _, e := range []plan.Extent{c.apart(), c.erase} {
		if end, ok := e.End(); !ok || int64(end) > off {
			stop = min(stop, max(int64(min(e.Off, math.MaxInt64)), off))
		}
	}
	return plan.Zeros(c.r, c.Size, off, max(stop, off), will)
}
