package vmcore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// An Edit looks at a core's notes and returns how to change them. An empty
// splice leaves the core as it is.
type Edit func(Core) (elfnote.Splice, error)

// Stream copies the dump that comes in on r to w, with its notes changed,
// in one pass: it holds the headers and the notes, and 256 KiB of the rest.
// It writes what PlanCopy of [Core] lays out for the same core in a file.
//
// Nothing is written before the notes are known and the edit has been agreed
// to: an error until then is an [*Unwritten], which has all that was read.
// If the stream ends before the memory that its headers promise, the error
// wraps [ErrTruncated], and the layout is returned; what was written by then is
// the truncated core with its notes changed. With all other errors the layout
// is nil. If a flattened dump cannot be changed to its end, the error is a
// [*Broken].
func Stream(ctx context.Context, w io.Writer, r io.Reader, edit Edit) (*Layout, error) {
	return StreamWithin(ctx, w, r, edit, plan.MaxHead)
}

// StreamWithin is [Stream] with another bound on the headers and notes that it
// keeps in memory: limit bytes, 64 MiB at most. A stream that has more of them
// is an [*Unwritten], as soon as limit bytes have been read.
func StreamWithin(ctx context.Context, w io.Writer, r io.Reader, edit Edit, limit int64) (*Layout, error) {
	h := &head{r: r}
	if p, ok := r.(*Peeked); ok {
		h = p.h
	}
	h.limit = min(limit, plan.MaxHead)
	if flat.Is(h) {
		return streamFlat(ctx, w, h, edit)
	}
	c, l, err := h.plan(edit)
	if err != nil {
		return nil, &Unwritten{err, h}
	}
	end := c.Claimed()
	s := h.streamer(ctx, w)
	if err := s.Run(l); err != nil {
		return nil, err
	}
	end = max(end, l.End)
	if s.In < end {
		if err := s.Skip(end); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if s.In < end {
		return l, errors.Wrapf(ErrTruncated, "the stream ends at %#x, expected %#x by its headers", s.In, end)
	}
	return l, nil
}

// plan plans the copy of a stream that is not flattened.
func (h *head) plan(edit Edit) (Core, *Layout, error) {
	c, err := Open(h, plan.Endless)
	if err != nil {
		return nil, nil, h.explain(err)
	}
	// Walking the notes reads no descriptor; the last may be cut off.
	if end := c.NotesOff() + c.Notes().Size; h.size < end {
		if _, err := h.ReadAt(make([]byte, 1), end-1); err != nil {
			return nil, nil, h.explain(err)
		}
	}
	sp, err := edit(c)
	if err != nil {
		return nil, nil, err
	}
	l, err := c.PlanCopy(sp)
	if err != nil {
		return nil, nil, h.explain(err)
	}
	return c, l, nil
}

// streamer returns a Streamer of the whole stream, from its start.
func (h *head) streamer(ctx context.Context, w io.Writer) *plan.Streamer {
	return &plan.Streamer{Ctx: ctx, W: w, R: io.MultiReader(h.replay(), h.r), Buf: make([]byte, plan.BufSize), Pipe: plan.NewSplicer(w, h.r), Kept: h.size}
}

// A head keeps the beginning of a stream, as far as it is asked for, and reads
// like a file. If the stream is a file's bytes it reads the file, and keeps
// nothing.
type head struct {
	r      io.Reader
	chunks [][]byte // of headChunk bytes each but the last
	size   int64
	err    error // why no more can be read
	cut    bool  // it ended before headers and notes did
	full   bool  // limit bytes are kept, and more were needed
	limit  int64 // of size; plan.MaxHead if 0
	file   *io.SectionReader
}

const headChunk = 64 << 10

// ReadAt reads further into the stream where it must.
func (h *head) ReadAt(p []byte, off int64) (int, error) {
	if h.file != nil && min(off+int64(len(p)), h.size) > plan.MaxHead {
		return 0, h.tooLarge(plan.MaxHead) // as of the same dump from a pipe
	}
	if h.file != nil {
		return h.file.ReadAt(p, off)
	}
	for h.size < off+int64(len(p)) && h.err == nil {
		h.more()
	}
	n := 0
	for n < len(p) && off+int64(n) < h.size {
		at := off + int64(n)
		n += copy(p[n:], h.chunks[at/headChunk][at%headChunk:])
	}
	if n < len(p) {
		return n, h.err
	}
	return n, nil
}

func (h *head) more() {
	limit := cmp.Or(h.limit, plan.MaxHead)
	if h.size >= limit {
		h.full = true
		h.err = h.tooLarge(limit)
		return
	}
	b := make([]byte, headChunk)
	n, err := io.ReadFull(h.r, b)
	h.chunks = append(h.chunks, b[:n])
	h.size += int64(n)
	h.err = plan.EndOf(err)
}

func (h *head) tooLarge(limit int64) error {
	return errors.Wrapf(plan.ErrOnePass, "headers and notes reach beyond %#x bytes, the most that is kept of a stream in memory", limit)
}

// explain returns the error that Open gives for a file of the stream's length,
// if the stream has ended; otherwise err.
func (h *head) explain(err error) error {
	if errors.Is(h.err, io.EOF) {
		if _, now := Open(h, h.size); now != nil {
			err = now
		}
		h.cut = errors.Is(err, ErrTruncated)
	}
	return err
}

// replay returns a reader of what was kept, which frees it as it reads.
func (h *head) replay() io.Reader {
	rs := make([]io.Reader, len(h.chunks))
	for i, c := range h.chunks {
		rs[i] = bytes.NewReader(c)
	}
	h.chunks = nil
	return io.MultiReader(rs...)
}

// StreamTo is [Stream] to the file out, under the rules of [File.CopyTo]. The
// stream may be all that there is of the dump. If it ends early, or cannot be
// changed to its end, the file keeps what has arrived, and the error says so. A
// stream that ended within its headers or notes is kept unchanged, and so is a
// dump that the edit refuses, or whose headers and notes are too large to keep
// in memory.
func StreamTo(ctx context.Context, out string, r io.Reader, edit Edit, opt CopyOptions) (*Layout, error) {
	o, err := atomicfile.Create(out, opt.output(0o600, nil))
	if err != nil {
		return nil, err
	}
	defer o.Discard()
	opened := false
	l, err := Stream(ctx, o.File, r, func(c Core) (elfnote.Splice, error) {
		opened = true
		return edit(c)
	})
	what := "the part that arrived"
	var whole *Unwritten
	var broken *Broken
	var rest interface {
		PassOn(context.Context, io.Writer) error
	}
	switch {
	case l != nil:
	case errors.As(err, &whole) && (whole.h.cut || opened || whole.h.full):
		rest, what = whole, "the input, unchanged"
	case errors.As(err, &broken):
		rest, what = broken, fmt.Sprintf("the whole input, unchanged from %#x on", broken.At)
	default:
		return nil, err
	}
	if rest != nil {
		if err2 := rest.PassOn(ctx, o.File); err2 != nil {
			return nil, fmt.Errorf("%v; the input could not be kept: %w", err, err2)
		}
	}
	if err2 := o.Finish(); err2 != nil {
		return nil, err2
	}
	if err != nil {
		err = fmt.Errorf("%w; %s holds %s", err, out, what)
	}
	return l, err
}
