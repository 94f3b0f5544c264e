package vmcore

import (
	"fmt"
	"math"
	"slices"

	"vmcsnote/elfnote"
)

// PlanCopy implements [Core]. The notes stay where they are and grow into the
// zeros behind them; if there are too few, the sub header gets as many blocks
// more as will do, and all behind it shifts. Notes at the end of the file
// ([End]) come back to the sub header, where no reader has trouble with them.
// It fails with a [*FormatError] where notes share bytes with something else,
// and on a stream whose notes come behind its memory.
func (c *KDump) PlanCopy(sp elfnote.Splice) (*Layout, error) {
	if err := c.checkSplice(sp); err != nil {
		return nil, err
	}
	if c.NotesOff() >= c.bitmapOff() {
		return c.planHome(sp)
	}
	start := c.NotesOff()
	end := start + c.notes.Size
	m, err := c.planShift(sp, start, end, sp.Grow())
	if err != nil {
		return nil, err
	}
	l := &Layout{Shift: m.shift}
	l.add(m.fixes, 0, start+sp.Off)
	l.pieces = append(l.pieces, piece{lit: sp.Ins})
	l.add(m.fixes, start+sp.Off+sp.Del, end)
	c.finish(l, m, end+sp.Grow(), c.Size)
	return l, nil
}

// planHome is PlanCopy for notes that lie at the end of the file: what End has
// brought there, a copy without the note undoes.
func (c *KDump) planHome(sp elfnote.Splice) (*Layout, error) {
	start := c.NotesOff()
	if c.Size == endless || c.notes.Size > maxHead {
		return nil, formatErr(c.subOff()+c.abi.note, "offset_note", c.note.String(),
			"at most %#x bytes before the bitmaps, where one pass can change them: use a file", maxHead)
	}
	notes := make([]byte, c.notes.Size)
	if err := c.read(notes, start); err != nil {
		return nil, err
	}
	notes = slices.Concat(notes[:sp.Off], sp.Ins, notes[sp.Off+sp.Del:])
	home := c.home()
	m, err := c.planShift(sp, home, home, int64(len(notes)))
	if err != nil {
		return nil, err
	}
	tail := c.Size
	if start+c.notes.Size == c.Size {
		tail = start
		if end := c.dataEnd(); roundUp(end, 4) == start {
			tail = end
		}
	}
	l := &Layout{Shift: m.shift}
	l.add(m.fixes, 0, home)
	l.pieces = append(l.pieces, piece{lit: notes})
	c.finish(l, m, home+int64(len(notes)), tail)
	return l, nil
}

// A kdumpMove is how what stands behind the notes moves.
type kdumpMove struct {
	end   int64 // what it is that moves begins here
	shift int64 // whole blocks
	fixes []fix

	passed uint64 // in a stream: pages in the dump, by the bitmap so far
}

// planShift plans to replace what lies from start to end by notes that take
// grow bytes more.
func (c *KDump) planShift(sp elfnote.Splice, start, end, grow int64) (*kdumpMove, error) {
	zeros, err := c.slack(end, max(grow, c.BlockSize), nil)
	if err != nil {
		return nil, err
	}
	m := &kdumpMove{end: end}
	switch {
	case grow > zeros:
		m.shift = roundUp(grow-zeros, c.BlockSize)
	case grow < 0 && zeros < c.BlockSize:
		m.shift = -((zeros - grow) &^ (c.BlockSize - 1))
	}
	blocks := c.SubHdrBlocks + m.shift/c.BlockSize
	if blocks > math.MaxInt32 {
		return nil, formatErr(c.abi.status+8, "sub_hdr_size", fmt.Sprint(c.SubHdrBlocks), "room for %#x bytes more", m.shift)
	}
	info, err := c.movedInfo(sp, start)
	if err != nil {
		return nil, err
	}
	if c.apart().size > 0 {
		info.off = m.moved(info.off)
	}
	m.fixes = c.fixTable(m, info, c.movedNotes(sp, start), uint32(blocks))
	if c.Size == endless {
		m.fixes = append(m.fixes, c.fixBitmap(m))
	}
	return m, nil
}

// moved returns the new place of what lies at off. Offsets that no file can have
// stay as they are.
func (m *kdumpMove) moved(off uint64) uint64 {
	if off < uint64(m.end) || off > math.MaxInt64-uint64(max(m.shift, 0)) {
		return off
	}
	return off + uint64(m.shift)
}

// finish adds what stands behind the notes, which end at newEnd in the copy, up
// to offset tail of the original. How many descriptors there are, the bitmap
// tells: a stream's when it has passed, a file's only where a copy is made.
func (c *KDump) finish(l *Layout, m *kdumpMove, newEnd, tail int64) {
	// From here on the copy's offset less shift is the original's.
	resume := max(m.end, newEnd-m.shift)
	l.pieces = append(l.pieces, piece{zero: resume + m.shift - newEnd})
	if m.shift == 0 && c.Size != endless || tail <= c.descOff() {
		l.add(m.fixes, resume, tail)
	} else {
		l.add(m.fixes, resume, c.descOff())
	}
	l.pieces = slices.DeleteFunc(l.pieces, func(p piece) bool { return p.size() == 0 })
	if m.shift != 0 && tail > c.descOff() || c.Size == endless {
		l.pieces = append(l.pieces, piece{later: func() []piece {
			rest := &Layout{}
			rest.add(c.fixDescs(l, m), c.descOff(), tail)
			return rest.pieces
		}})
	}
	l.Size = tail
	if tail != endless {
		l.Size += m.shift
	}
}

// fixTable returns the fields of the headers that change.
func (c *KDump) fixTable(m *kdumpMove, info, note extent, blocks uint32) []fix {
	sub := fix{extent{uint64(c.subOff()), uint64(c.abi.subSize)}, c.abi.subSize, func(b []byte) {
		c.putExtent(b[c.abi.info:], info)
		c.putExtent(b[c.abi.note:], note)
		if c.erase.size > 0 {
			c.putExtent(b[c.abi.erase:], extent{m.moved(c.erase.off), c.erase.size})
		}
	}}
	if m.shift == 0 {
		return []fix{sub}
	}
	return []fix{{extent{uint64(c.abi.status + 8), 4}, 4, func(b []byte) { c.Order.PutUint32(b, blocks) }}, sub}
}

// fixDescs returns the table of page descriptors. In a stream it tells the
// layout how far page data reaches.
func (c *KDump) fixDescs(l *Layout, m *kdumpMove) []fix {
	n := m.passed
	if c.Size != endless {
		n = c.held(c.index())
	}
	return []fix{{extent{uint64(c.descOff()), n * descSize}, descSize, func(b []byte) {
		if end, ok := c.desc(b).data.end(); ok && c.Size == endless {
			l.end = max(l.end, int64(end))
		}
		c.Order.PutUint64(b, m.moved(c.Order.Uint64(b)))
	}}}
}

// fixBitmap counts the pages in a stream while their bitmap passes.
func (c *KDump) fixBitmap(m *kdumpMove) fix {
	const group = 8 // bytes at a time
	dumped, _ := c.bitmaps()
	pfn := uint64(0)
	return fix{extent{uint64(dumped), uint64(roundUp(int64((c.EndPFN+7)/8), group))}, group, func(b []byte) {
		if pfn < c.EndPFN && pfn+group*8 > c.StartPFN {
			m.passed += countBits(b, max(c.StartPFN, pfn)-pfn, min(group*8, c.EndPFN-pfn))
		}
		pfn += group * 8
	}}
}

// claimed returns the end of notes, eraseinfo and page data, by the headers and,
// but in a stream, by all descriptors.
func (c *KDump) claimed() int64 {
	end := int64(0)
	if c.Size != endless {
		end = c.dataEnd()
	}
	for _, e := range []extent{c.info, c.note, c.erase} {
		if e, ok := e.end(); ok {
			end = max(end, int64(e))
		}
	}
	return max(end, c.descOff())
}

// dataEnd returns where page data and eraseinfo end, by the descriptors.
func (c *KDump) dataEnd() int64 {
	x := c.index()
	end := uint64(c.descOff()) + x.pages()*descSize
	if e, ok := c.erase.end(); ok {
		end = max(end, e)
	}
	r := c.pages.get(c)
	defer c.pages.put(r)
	for n := range c.held(x) {
		d, _, err := r.descriptor(n)
		if err != nil {
			break
		}
		if e, ok := d.data.end(); ok {
			end = max(end, e)
		}
	}
	return int64(end)
}
