package vmcore

import (
	"bytes"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// A span is bytes of the plain form and where they go in the copy.
type span struct {
	src, end, dst int64
	what          spanKind
	entry         int64 // size of a table's entries
	mend          func([]byte)
}

type spanKind int

const (
	isPlain        spanKind = iota
	isTable                 // entries to be mended, kept
	isBitmap                // of the pages in a kdump-compressed dump, counted as it passes
	isAfterBitmaps          // page descriptors and page data, while the count is not known
	isDescs                 // page descriptors
)

// entryAt returns where the entry begins that has the byte at off.
func (p span) entryAt(off int64) int64 { return p.src + (off-p.src)/p.entry*p.entry }

func (p span) sameAs(q span) bool {
	return p.src == q.src && p.end == q.end && p.dst == q.dst && p.what == q.what && p.entry == q.entry
}

// freshBytes are bytes of the copy that the original has not.
type freshBytes struct {
	dst   int64
	bytes []byte
}

func (f freshBytes) equal(g freshBytes) bool { return f.dst == g.dst && bytes.Equal(f.bytes, g.bytes) }

// pagesOf locates the bitmaps and page descriptors of a dump; nil if it is not
// compressed page by page.
func pagesOf(c Core) *plan.Pages {
	if c, ok := c.(interface{ Pages() *plan.Pages }); ok {
		return c.Pages()
	}
	return nil
}

// spansOf returns a layout of c as spans, sorted, and what is new in it.
func spansOf(c Core, l *Layout) (spans []span, fresh []freshBytes) {
	pages := pagesOf(c)
	at := int64(0)
	for _, p := range l.Pieces {
		s := span{src: p.Src, end: p.Src + p.N, dst: at, entry: p.Entry, mend: p.Mend}
		switch {
		case p.Later != nil:
			s = span{src: pages.Descs, end: plan.Endless, dst: pages.Descs + l.Shift, what: isAfterBitmaps}
		case p.N == 0:
			fresh = append(fresh, freshBytes{at, slices.Concat(p.Lit, make([]byte, p.Zero))})
		case p.Mend == nil:
		case pages != nil && p.Src >= pages.Bitmaps:
			s.what, s.entry, s.mend = isBitmap, 0, nil
		default:
			s.what = isTable
		}
		if s.end > s.src {
			spans = append(spans, s)
		}
		at += p.Size()
	}
	return spans, fresh
}

// clip cuts spans at offset size, and tables before an entry that size cuts in
// two: that is no entry.
func clip(spans []span, size int64) []span {
	var out []span
	add := func(s span) {
		n := len(out) - 1
		switch {
		case s.end <= s.src:
		case n >= 0 && s.what == isPlain && out[n].what == isPlain && out[n].end == s.src && out[n].dst-out[n].src == s.dst-s.src:
			out[n].end = s.end
		default:
			out = append(out, s)
		}
	}
	for _, s := range spans {
		if s.src >= size {
			break
		}
		rest := s
		s.end = min(s.end, size)
		if s.what == isTable {
			s.end = s.src + (s.end-s.src)/s.entry*s.entry
		}
		add(s)
		add(span{src: s.end, end: min(rest.end, size), dst: s.dst + s.end - s.src})
	}
	return out
}

// A bitStream counts the pages of a kdump-compressed dump as their bitmap
// passes.
type bitStream struct {
	next  int64 // where the bitmap goes on
	pages uint64
	descs int64 // what descriptors take, in bytes, by the order of the records; 0 if by the bitmap
}

// count counts in the bytes b of the bitmap, which belong at off.
func (s *flatStream) count(p span, off int64, b []byte) error {
	if off < s.bits.next {
		return errors.Wrapf(plan.ErrOnePass, "the bitmap at offset %#x of the plain form comes out of order", off)
	}
	s.bits.next = off + int64(len(b))
	s.bits.pages += pagesOf(s.c).Count(b, uint64(off-p.src)*8)
	return nil
}

// afterBitmaps takes up to n bytes at off, after the bitmaps: span i. It
// returns how many it took. The bitmap tells how many of them are page
// descriptors. If makedumpfile goes in cycles and writes the bitmap bit by bit,
// the order of the records does: it writes the descriptors one after the other,
// and so the page data, which begins where a record does not continue the
// descriptors.
func (s *flatStream) afterBitmaps(i int, off, n int64) (int64, error) {
	p := s.spans[i]
	table := span{src: p.src, end: p.end, dst: p.dst, what: isDescs, entry: plan.DescSize}
	mend := pagesOf(s.c).Mend
	table.mend = func(b []byte) { mend(b, s.l.Shift) }
	bitmap := slices.IndexFunc(s.spans, func(p span) bool { return p.what == isBitmap })
	switch came := off - p.src; {
	case bitmap < 0 || s.bits.next >= s.bitmapEnd(s.spans[bitmap]):
		table.end = p.src + int64(s.bits.pages)*plan.DescSize
		if p.src+s.bits.descs <= table.end {
			s.bits.descs = 0 // the records so far did not show all of them
		}
	case came == s.bits.descs:
		s.bits.descs += n
		return n, s.pass(table, off, n)
	case came%plan.DescSize != 0 || came < s.bits.descs:
		return 0, &planError{plan.OnePassErrorf(off, "page data", "its first record there", "a whole number of page descriptors before it")}
	default:
		table.end, s.bits.descs = off, came
	}
	data := span{src: table.end, end: p.end, dst: table.dst + table.end - table.src}
	s.spans = append(s.spans[:i], table, data)
	return 0, nil
}

// bitmapEnd returns where the bitmap's last byte ends. makedumpfile writes no
// more than that; the span is of whole groups.
func (s *flatStream) bitmapEnd(p span) int64 {
	return min(p.end, p.src+int64((pagesOf(s.c).End+7)/8))
}

// checkCut makes sure, where the stream ends early, that page data was not
// taken for page descriptors: there are no more of these than the bitmap has
// pages.
func (b bitStream) checkCut() error {
	if uint64(b.descs) > b.pages*plan.DescSize {
		return b.checkPages()
	}
	return nil
}

// checkPages makes sure, once all of the bitmap has come, that it has as many
// pages as the order of the records has page descriptors.
func (b bitStream) checkPages() error {
	if b.descs != 0 && uint64(b.descs) != b.pages*plan.DescSize {
		return errors.Wrapf(plan.ErrOnePass, "page descriptors seemed to take %#x bytes, the bitmap has %d pages", b.descs, b.pages)
	}
	return nil
}

// maxCutDescs bounds the page descriptors of which only a part has come.
const maxCutDescs = 1 << 16

// A descStream has the page descriptors of which only a part has come: records
// of makedumpfile end anywhere.
type descStream map[int64]*cutDesc

type cutDesc struct {
	b    [plan.DescSize]byte
	have uint32 // a bit for each byte
}

// mendDescs takes bytes of the page descriptors, and passes on those that are
// whole by now.
func (s *flatStream) mendDescs(p span, off int64, b []byte) error {
	var out []byte
	start := int64(-1) // of what is in out
	for len(b) > 0 {
		at := p.entryAt(off)
		n := min(int64(len(b)), at+plan.DescSize-off)
		e := b[:n]
		if n < plan.DescSize {
			var err error
			if e, err = s.descs.add(at, off-at, e); err != nil {
				return err
			}
		}
		if len(e) == plan.DescSize {
			if start < 0 {
				start = at
			}
			out = append(out, e...)
			p.mend(out[len(out)-plan.DescSize:])
		}
		off, b = off+n, b[n:]
	}
	if start < 0 {
		return nil
	}
	return s.write(p.dst+start-p.src, out)
}

// add takes bytes b of the descriptor at offset at, from its byte i on, and
// returns it if it is whole.
func (d descStream) add(at, i int64, b []byte) ([]byte, error) {
	e := d[at]
	if e == nil {
		if len(d) == maxCutDescs {
			return nil, &planError{errors.Wrapf(plan.ErrOnePass, "more than %d page descriptors in parts", maxCutDescs)}
		}
		e = &cutDesc{}
		d[at] = e
	}
	copy(e.b[i:], b)
	e.have |= (1<<len(b) - 1) << i
	if e.have != 1<<plan.DescSize-1 {
		return nil, nil
	}
	delete(d, at)
	return e.b[:], nil
}

// finish makes sure that no descriptor is left in part.
func (d descStream) finish() error {
	for at := range d {
		return plan.OnePassErrorf(at, "page descriptor", "a part of it in the records, or one that comes again", "all of it")
	}
	return nil
}
