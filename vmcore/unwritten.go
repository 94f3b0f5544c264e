package vmcore

import (
	"context"
	"io"

	"github.com/pkg/errors"
)

// Unwritten is the error of a stream of which nothing has been written yet. It
// has what was read of it, so that the dump is not lost with the change.
type Unwritten struct {
	error
	h *head
}

// Unwrap gives the cause to errors.Is and errors.As.
func (u *Unwritten) Unwrap() error { return u.error }

// PassOn writes the stream to w as it came, byte for byte, to its end. It can be
// called once.
func (u *Unwritten) PassOn(ctx context.Context, w io.Writer) error {
	err := u.h.streamer(ctx, w).copy(endless)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
