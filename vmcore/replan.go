package vmcore

import (
	"fmt"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// finish checks the plan against headers and notes as all records have left
// them, writes what is still missing, and then the end marker.
func (s *flatStream) finish() error {
	if holes := s.kept.size - s.held; holes > flat.MaxHoles && holes-flat.MaxHoles > s.in {
		return errors.Errorf("the plain form has %#x bytes that no record holds, expected at most %#x in a stream of %#x bytes", holes, flat.MaxHoles, s.in)
	}
	l, spans, err := s.again()
	if err != nil {
		return err
	}
	for _, p := range s.spans {
		if p.what != isTable {
			continue
		}
		now := p
		if j := slices.IndexFunc(spans, func(q span) bool { return p.src == q.src }); j >= 0 {
			now = spans[j]
		}
		for at := p.src; at < min(p.end, s.kept.size); at += p.entry {
			if err := s.settle(p, now, at); err != nil {
				return err
			}
		}
	}
	if err := s.bits.checkPages(); err != nil {
		return err
	}
	if err := s.descs.finish(); err != nil {
		return err
	}
	size := s.kept.size + l.Shift
	if l.Size != plan.Endless {
		size = l.Size
	}
	switch {
	case s.top < size:
		err = s.write(size-1, []byte{0})
	case s.top > size:
		err = errors.Wrapf(plan.ErrOnePass, "the copy ends at %#x, expected %#x", s.top, size)
	}
	if err != nil {
		return err
	}
	_, err = s.w.Write(flat.EndMarker)
	return err
}

// settle writes the table entry at offset at again if only part of it was in
// records, or if it changes otherwise by the plan as it is now.
func (s *flatStream) settle(p, now span, at int64) error {
	held := s.kept.held(at, p.entry)
	switch {
	case held == 0:
		return nil
	case at+p.entry > s.kept.size: // cut off, and so no entry
		b := make([]byte, s.kept.size-at)
		s.kept.read(b, at)
		return s.write(p.dst+at-p.src, b)
	}
	b := s.mended(now, at, at+p.entry)
	if held == p.entry && slices.Equal(b, s.mended(p, at, at+p.entry)) {
		return nil
	}
	return s.write(p.dst+at-p.src, b)
}

// again plans the copy of the dump as it is now.
func (s *flatStream) again() (*Layout, []span, error) {
	size := s.kept.size
	if pagesOf(s.c) != nil {
		size = plan.Endless // all of the sub header is kept, no page data
	}
	wrong := func(err error) error {
		return fmt.Errorf("%w: its end contradicts its beginning: %w", plan.ErrOnePass, err)
	}
	c, err := Open(s.kept, size)
	if err != nil {
		return nil, nil, wrong(err)
	}
	if sum, err := sumNotes(s.kept, c); err != nil || sum != s.notes || c.NotesOff() != s.c.NotesOff() {
		was, is := plan.Extent{Off: uint64(s.c.NotesOff()), Size: uint64(s.c.Notes().Size)}, plan.Extent{Off: uint64(c.NotesOff()), Size: uint64(c.Notes().Size)}
		return nil, nil, wrong(plan.FormatErrorf(c.NotesOff(), "notes", is.String(), "those that have passed, %v", was))
	}
	l, err := c.PlanCopy(s.sp)
	if err != nil {
		return nil, nil, wrong(err)
	}
	spans, fresh := spansOf(c, l)
	old, _ := spansOf(s.c, s.l)
	if l.Shift != s.l.Shift || !slices.EqualFunc(clip(old, s.kept.size), clip(spans, s.kept.size), span.sameAs) ||
		!slices.EqualFunc(fresh, s.fresh, freshBytes.equal) {
		return nil, nil, wrong(plan.FormatErrorf(c.NotesOff(), "notes", fmt.Sprintf("room that shifts the rest by %#x", l.Shift), "by %#x", s.l.Shift))
	}
	return l, spans, nil
}
