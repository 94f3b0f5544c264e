package kdump

import (
	"fmt"
	"math"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// PlanCopy implements vmcore.Core. The notes stay where they are and grow into
// the zeros after them; if there are too few, the sub header gets as few more
// blocks as will do, and all after it shifts. Notes at the end of the file
// ([plan.End]) come back to the sub header, where no reader has trouble with
// them. It fails with a [*plan.FormatError] if notes share bytes with something
// else, and on a stream whose notes come after its memory.
func (c *Dump) PlanCopy(sp elfnote.Splice) (*plan.Layout, error) {
	if err := c.checkSplice(sp); err != nil {
		return nil, err
	}
	if c.NotesOff() >= c.BitmapOff() {
		return c.planHome(sp)
	}
	start := c.NotesOff()
	end := start + c.notes.Size
	m, err := c.planShift(sp, start, end, sp.Grow())
	if err != nil {
		return nil, err
	}
	l := &plan.Layout{Shift: m.shift}
	l.Add(m.fixes, 0, start+sp.Off)
	l.Pieces = append(l.Pieces, plan.Piece{Lit: sp.Ins})
	l.Add(m.fixes, start+sp.Off+sp.Del, end)
	c.finish(l, m, end+sp.Grow(), c.Size)
	return l, nil
}

// planHome is PlanCopy for notes at the end of the file: a copy without the
// note undoes a change by End.
func (c *Dump) planHome(sp elfnote.Splice) (*plan.Layout, error) {
	start := c.NotesOff()
	if c.Size == plan.Endless {
		return nil, plan.OnePassErrorf(c.SubOff()+c.ABI.Note, "offset_note", c.Note.String(),
			"notes before the bitmaps, where one pass can change them")
	}
	size := c.notes.Size + sp.Grow()
	home := c.Home()
	m, err := c.planShift(sp, home, home, size)
	if err != nil {
		return nil, err
	}
	tail := c.Size
	if start+c.notes.Size == c.Size {
		tail = start
		if end := c.DataEnd(); plan.RoundUp(end, 4) == start {
			tail = end
		}
	}
	l := &plan.Layout{Shift: m.shift}
	l.Add(m.fixes, 0, home)
	l.AddNotes(c.R, start, c.notes.Size, sp)
	c.finish(l, m, home+size, tail)
	return l, nil
}

// A move describes how everything after the notes moves.
type move struct {
	end   int64 // what moves begins here
	shift int64 // whole blocks
	fixes []plan.Fix

	passed uint64 // in a stream: pages in the dump, by the bitmap so far
}

// planShift plans to replace what lies from start to end by notes that take
// grow bytes more.
func (c *Dump) planShift(sp elfnote.Splice, start, end, grow int64) (*move, error) {
	zeros, err := c.slack(end, max(grow, c.BlockSize), nil)
	if err != nil {
		return nil, err
	}
	m := &move{end: end}
	switch {
	case grow > zeros:
		m.shift = plan.RoundUp(grow-zeros, c.BlockSize)
	case grow < 0 && zeros < c.BlockSize:
		m.shift = -((zeros - grow) &^ (c.BlockSize - 1))
	}
	blocks := c.SubHdrBlocks + m.shift/c.BlockSize
	if blocks > math.MaxInt32 {
		return nil, plan.FormatErrorf(c.ABI.Status+8, "sub_hdr_size", fmt.Sprint(c.SubHdrBlocks), "room for %#x bytes more", m.shift)
	}
	info, err := c.movedInfo(sp, start)
	if err != nil {
		return nil, err
	}
	if c.apart().Size > 0 {
		info.Off = m.moved(info.Off)
	}
	m.fixes = c.fixTable(m, info, c.movedNotes(sp, start), uint32(blocks))
	if c.Size == plan.Endless {
		m.fixes = append(m.fixes, c.fixBitmap(m))
	}
	return m, nil
}

// moved returns the new place of what lies at off. Offsets that no file can
// have stay as they are.
func (m *move) moved(off uint64) uint64 {
	if off < uint64(m.end) || off > math.MaxInt64-uint64(max(m.shift, 0)) {
		return off
	}
	return off + uint64(m.shift)
}

// finish adds what stands after the notes, which end at newEnd in the copy, up
// to offset tail of the original. The bitmap gives the number of descriptors:
// in a stream it is known once the bitmap has passed, in a file it is read only
// if the copy is made.
func (c *Dump) finish(l *plan.Layout, m *move, newEnd, tail int64) {
	// From here on the copy's offset less shift is the original's.
	resume := max(m.end, newEnd-m.shift)
	l.Pieces = append(l.Pieces, plan.Piece{Zero: resume + m.shift - newEnd})
	later := c.Size == plan.Endless || m.shift != 0 && tail > c.DescOff()
	if later {
		l.Add(m.fixes, resume, c.DescOff())
	} else {
		l.Add(m.fixes, resume, tail)
	}
	l.DropEmpty()
	if later {
		l.Pieces = append(l.Pieces, plan.Piece{Later: func() []plan.Piece {
			if err := c.bitmapError(); err != nil {
				return []plan.Piece{{Err: err}}
			}
			rest := &plan.Layout{}
			rest.Add(c.fixDescs(l, m), c.DescOff(), tail)
			return rest.Pieces
		}})
	}
	l.Size = tail
	if tail != plan.Endless {
		l.Size += m.shift
	}
}

// fixTable returns the fields of the headers that change.
func (c *Dump) fixTable(m *move, info, note plan.Extent, blocks uint32) []plan.Fix {
	sub := plan.Fix{Extent: plan.Extent{Off: uint64(c.SubOff()), Size: uint64(c.ABI.SubSize)}, Entry: c.ABI.SubSize, Mend: func(b []byte) {
		c.PutExtent(b[c.ABI.Info:], info)
		c.PutExtent(b[c.ABI.Note:], note)
		if c.Erase.Size > 0 {
			c.PutExtent(b[c.ABI.Erase:], plan.Extent{Off: m.moved(c.Erase.Off), Size: c.Erase.Size})
		}
	}}
	if m.shift == 0 {
		return []plan.Fix{sub}
	}
	return []plan.Fix{{Extent: plan.Extent{Off: uint64(c.ABI.Status + 8), Size: 4}, Entry: 4, Mend: func(b []byte) { c.Order.PutUint32(b, blocks) }}, sub}
}

// bitmapError returns the error if a file's bitmap cannot be read: nothing then
// tells how many descriptors need new offsets. A file that ends before its
// descriptors has none.
func (c *Dump) bitmapError() error {
	if c.Size == plan.Endless || c.Size <= c.DescOff() {
		return nil
	}
	return c.Index().err
}

// fixDescs returns the table of page descriptors. In a stream it extends the
// layout's End to the end of page data.
func (c *Dump) fixDescs(l *plan.Layout, m *move) []plan.Fix {
	n := m.passed
	if c.Size != plan.Endless {
		n = c.held(c.Index())
	}
	return []plan.Fix{{Extent: plan.Extent{Off: uint64(c.DescOff()), Size: n * plan.DescSize}, Entry: plan.DescSize, Mend: func(b []byte) {
		if d := c.Desc(b); c.Size == plan.Endless && c.leads(d) {
			l.End = max(l.End, int64(d.Data.Off+d.Data.Size))
		}
		c.mendDesc(m, b)
	}}}
}

// leads reports whether d leads to page data. In a live system's dump page data
// can lie over the last descriptors, and leads nowhere.
func (c *Dump) leads(d PageDesc) bool {
	_, ok := d.Data.End()
	return ok && d.Data.Off >= uint64(c.DescOff()) && c.fits(d)
}

// mendDesc moves what the descriptor in b leads to. It keeps one that leads
// nowhere, which may be page data.
func (c *Dump) mendDesc(m *move, b []byte) {
	if d := c.Desc(b); c.leads(d) {
		c.Order.PutUint64(b, m.moved(d.Data.Off))
	}
}

// fixBitmap counts the pages in a stream while their bitmap passes.
func (c *Dump) fixBitmap(m *move) plan.Fix {
	const group = 8 // bytes at a time
	dumped, _ := c.Bitmaps()
	pfn := uint64(0)
	return plan.Fix{Extent: plan.Extent{Off: uint64(dumped), Size: uint64(plan.RoundUp(int64((c.EndPFN+7)/8), group))}, Entry: group, Mend: func(b []byte) {
		m.passed += c.countPages(b[:group], pfn)
		pfn += group * 8
	}}
}

// Claimed implements vmcore.Core: it returns the end of notes, eraseinfo and
// page data, by the headers and, but in a stream, by all descriptors.
func (c *Dump) Claimed() int64 {
	end := int64(0)
	if c.Size != plan.Endless {
		end = c.DataEnd()
	}
	for _, e := range []plan.Extent{c.Info, c.Note, c.Erase} {
		if e, ok := e.End(); ok {
			end = max(end, int64(e))
		}
	}
	return max(end, c.DescOff())
}

// DataEnd returns where page data and eraseinfo end, by the descriptors.
func (c *Dump) DataEnd() int64 {
	x := c.Index()
	end := uint64(c.DescOff()) + x.Pages()*plan.DescSize
	if e, ok := c.Erase.End(); ok {
		end = max(end, e)
	}
	r := c.pages.get(c)
	defer c.pages.put(r)
	for n := range c.held(x) {
		d, _, err := r.descriptor(n)
		if err != nil {
			break
		}
		if c.leads(d) {
			end = max(end, d.Data.Off+d.Data.Size)
		}
	}
	return int64(end)
}

// Pages locates bitmaps and page descriptors for a stream.
func (c *Dump) Pages() *plan.Pages {
	dumped, _ := c.Bitmaps()
	return &plan.Pages{
		Bitmaps: c.BitmapOff(),
		Bitmap:  dumped,
		End:     c.EndPFN,
		Descs:   c.DescOff(),
		Count:   c.countPages,
		Mend: func(b []byte, shift int64) {
			c.mendDesc(&move{end: c.NotesOff() + c.notes.Size, shift: shift}, b)
		},
	}
}

// countPages returns how many pages of the dump b has, a part of the bitmap
// whose first bit is that of PFN first.
func (c *Dump) countPages(b []byte, first uint64) uint64 {
	from, end := max(c.StartPFN, first), min(c.EndPFN, first+uint64(len(b))*8)
	if from >= end {
		return 0
	}
	return countBits(b, from-first, end-first)
}
