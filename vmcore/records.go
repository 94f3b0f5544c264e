package vmcore

import (
	"bufio"
	"context"
	"io"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// streamFlat is [Stream] for a flattened dump: records come in, records go out,
// in the order they came, those after the notes with another offset. Put
// together, what it writes is what PlanCopy lays out for the plain form.
//
// Records may come in any order, so that some of this has to be taken on trust:
//
//   - makedumpfile writes an ELF core's program headers last. Until they have
//     come, the record directly after the table's place is taken for the notes,
//     if another record begins at its end: makedumpfile -E leaves no room
//     between table, notes and memory, unless it was told to erase symbols
//     (--config, --eppic). Such a dump is not streamed.
//   - Bytes after the notes that no record holds, though a later one has come,
//     are taken for zeros.
//   - A kdump-compressed dump's bitmaps come before its page descriptors and
//     page data: makedumpfile does so unless it has to go in cycles. Then the
//     first record that does not continue the page descriptors is taken for
//     page data.
//
// All of this is checked: at the end marker headers and notes are opened again,
// as all records have left them, and the copy planned again. If that is not the
// plan that was followed, there is an error, and the receiver is left with a
// dump without an end marker, which is not complete. Headers that a late record
// has changed are written again.
//
// It keeps headers, tables and notes, [plan.MaxHead] at most. Nothing is
// written before the edit has been agreed to. For a stream that ends before its
// end marker it returns [ErrTruncated] and the layout; what was written is all
// that came, without an end marker. If a record is damaged the error is
// [*Broken]. A dump that ends before its notes are known, or of which all had
// to be kept for that, is written in records of 64 KiB in the order of the
// plain form.
func streamFlat(ctx context.Context, w io.Writer, h *head, edit Edit) (*Layout, error) {
	p := &flatHead{h: h}
	plan, err := p.plan(edit)
	if err != nil {
		return nil, &Unwritten{err, h}
	}
	if p.whole {
		return plan.l, flat.Flatten(ctx, w, io.NewSectionReader(p, 0, p.top), plan.l)
	}
	s := &flatStream{flatStreamPlan: *plan, ctx: ctx, w: w, descs: descStream{}}
	s.spans, s.fresh = spansOf(plan.c, plan.l)
	if s.kept, err = s.keep(); err != nil {
		return nil, &Unwritten{err, h}
	}
	s.r = bufio.NewReaderSize(io.MultiReader(h.replay(), h.r), flat.BodySize+flat.RecordHeader)
	s.buf = make([]byte, flat.RecordHeader+flat.BodySize)
	switch err := s.run(); {
	case err == nil, errors.Is(err, ErrTruncated):
		return s.l, err
	default:
		return nil, err
	}
}

// A flatStreamPlan is how a flattened dump changes as it passes.
type flatStreamPlan struct {
	c     Core
	sp    elfnote.Splice
	l     *Layout
	notes uint64 // a sum of the notes that the edit saw
}

// A flatStream passes records on.
type flatStream struct {
	flatStreamPlan
	ctx context.Context
	w   io.Writer
	r   *bufio.Reader
	in  int64 // bytes taken from r
	buf []byte

	spans []span
	fresh []freshBytes
	kept  *keptBytes
	descs descStream
	bits  bitStream
	top   int64 // where the copy's plain form ends so far
	held  int64 // bytes in records so far
}

func (s *flatStream) run() error {
	b := make([]byte, flat.HeaderSize)
	if _, err := s.read(b); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	for begun := false; ; {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		at := s.in
		if n, err := s.read(b[:flat.RecordHeader]); err != nil {
			if _, err := s.w.Write(b[:n]); err != nil {
				return err
			}
			return err
		}
		off, size, err := flat.ParseRecord(b, at)
		if err != nil {
			return &Broken{err, at, slices.Clone(b[:flat.RecordHeader]), s.r}
		}
		if size < 0 {
			if err := s.finish(); err != nil {
				return &Broken{err, s.in, nil, s.r}
			}
			return nil
		}
		if err := s.record(off, size); err != nil {
			if cut := s.bits.checkCut(); cut != nil && errors.Is(err, ErrTruncated) {
				err = &Broken{cut, s.in, nil, s.r}
			}
			return err
		}
		if !begun { // after the first record, which has the header
			begun = true
			for _, f := range s.fresh {
				if err := s.write(f.dst, f.bytes); err != nil {
					return err
				}
			}
		}
	}
}

// read fills b, and returns how many bytes of it came.
func (s *flatStream) read(b []byte) (int, error) {
	n, err := io.ReadFull(s.r, b)
	s.in += int64(n)
	if errors.Is(plan.EndOf(err), io.EOF) {
		err = cutStream(s.in)
	}
	return n, err
}

// cutStream is the error for a stream that ends too early.
func cutStream(at int64) error {
	return errors.Wrapf(ErrTruncated, "the stream ends at %#x, before the end marker of the flattened dump", at)
}

// write writes a record, that of b at off.
func (s *flatStream) write(off int64, b []byte) error {
	var h [flat.RecordHeader]byte
	flat.PutRecordHeader(h[:], off, int64(len(b)))
	s.top = max(s.top, off+int64(len(b)))
	_, err := s.w.Write(slices.Concat(h[:], b))
	return err
}

// record passes a record on, cut where the copy has other bytes in between.
func (s *flatStream) record(off, size int64) error {
	end := off + size
	s.kept.size = max(s.kept.size, end)
	s.held += size // what overflows does not get to the end marker
	for off < end {
		i := slices.IndexFunc(s.spans, func(p span) bool { return p.end > off })
		if i < 0 || s.spans[i].src > off { // bytes that are not in the copy
			n := end - off
			if i >= 0 {
				n = min(n, s.spans[i].src-off)
			}
			if err := s.drop(off, n); err != nil {
				return err
			}
			off += n
			continue
		}
		p := s.spans[i]
		if p.what == isAfterBitmaps {
			n, err := s.afterBitmaps(i, off, end-off)
			if err != nil {
				return s.broken(err, p, off, end-off, nil)
			}
			off += n
			continue
		}
		n := min(end, p.end) - off
		if err := s.pass(p, off, n); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// drop takes n bytes that belong at off and passes on none.
func (s *flatStream) drop(off, n int64) error {
	for n > 0 {
		k, err := s.read(s.buf[:min(n, int64(len(s.buf)))])
		s.kept.put(off, s.buf[:k])
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// pass passes on n bytes at off, within p.
func (s *flatStream) pass(p span, off, n int64) error {
	if p.what == isPlain || p.what == isBitmap {
		return s.copy(p, off, n)
	}
	for n > 0 {
		k, cut := s.read(s.buf[:min(n, int64(len(s.buf)))])
		b := s.buf[:k]
		mend := s.mendTable
		if p.what == isDescs {
			mend = s.mendDescs
		}
		if err := mend(p, off, b); err != nil {
			return s.broken(err, p, off, n, b)
		}
		if cut != nil {
			return cut
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// broken turns an error about n bytes at off, within p, of which b have been
// taken from the stream, into one by which they and the rest can be passed on.
// An error of the stream itself, or of the one written to, stays as it is.
func (s *flatStream) broken(err error, p span, off, n int64, b []byte) error {
	var plan *planError
	if !errors.As(err, &plan) {
		return err
	}
	h := make([]byte, flat.RecordHeader, flat.RecordHeader+len(b))
	flat.PutRecordHeader(h, p.dst+off-p.src, n)
	return &Broken{plan.error, s.in - int64(len(b)), append(h, b...), s.r}
}

// A planError says that the records do not come in the planned order.
type planError struct{ error }

// copy passes on n bytes at off as one record, as they are.
func (s *flatStream) copy(p span, off, n int64) error {
	flat.PutRecordHeader(s.buf, p.dst+off-p.src, n)
	s.top = max(s.top, p.dst+off-p.src+n)
	for h := flat.RecordHeader; n > 0; h = 0 {
		b := s.buf[h:]
		k, cut := s.read(b[:min(n, int64(len(b)))])
		b = b[:k]
		if _, err := s.w.Write(s.buf[:h+k]); err != nil {
			return err
		}
		s.kept.put(off, b)
		if p.what == isBitmap {
			if err := s.count(p, off, b); err != nil {
				return &Broken{err, s.in, nil, s.r}
			}
		}
		if cut != nil {
			return cut
		}
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// mendTable takes bytes of a table that is kept, and passes on the entries that
// are whole by now.
func (s *flatStream) mendTable(p span, off int64, b []byte) error {
	s.kept.put(off, b)
	first, end := p.entryAt(off), min(p.entryAt(off+int64(len(b))-1)+p.entry, p.end)
	for ; first < end && s.kept.held(first, p.entry) < p.entry; first += p.entry {
	}
	last := first
	for ; last < end && s.kept.held(last, p.entry) == p.entry; last += p.entry {
	}
	if first == last {
		return nil
	}
	return s.write(p.dst+first-p.src, s.mended(p, first, last))
}

// mended returns the entries from first to end as they are in the copy.
func (s *flatStream) mended(p span, first, end int64) []byte {
	b := make([]byte, end-first)
	s.kept.read(b, first)
	for e := b; len(e) > 0; e = e[p.entry:] {
		p.mend(e)
	}
	return b
}
