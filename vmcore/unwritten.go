package vmcore

import (
	"context"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// Unwritten is the error of a stream that failed before anything was written.
// It keeps what was read so far, so that the dump is not lost.
type Unwritten struct {
	error
	h *head
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (u *Unwritten) Unwrap() error { return u.error }

// PassOn writes the stream to w as it came, byte for byte, to its end. It can
// be called once.
func (u *Unwritten) PassOn(ctx context.Context, w io.Writer) error {
	return passOn(u.h.streamer(ctx, w))
}

// passOn writes the rest of a stream.
func passOn(s *plan.Streamer) error {
	if err := s.Copy(plan.Endless); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Broken is the error for a flattened stream that could not be changed to its
// end: a record is damaged, or the records do not come in the expected order.
// What came before has been written, with the change.
type Broken struct {
	error
	// At is the offset in the stream of the first byte that PassOn writes.
	At int64

	rest []byte // to be written first
	r    io.Reader
}

// Unwrap returns the cause for errors.Is and errors.As.
func (b *Broken) Unwrap() error { return b.error }

// PassOn writes the rest of the stream to w as it came, to its end. It can be
// called once.
func (b *Broken) PassOn(ctx context.Context, w io.Writer) error {
	if _, err := w.Write(b.rest); err != nil {
		return err
	}
	return passOn(&plan.Streamer{Ctx: ctx, W: w, R: b.r, Buf: make([]byte, plan.BufSize)})
}
