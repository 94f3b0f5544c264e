package plan

import (
	"io"
	"io/fs"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// pipeSize is what pipes are asked to hold: fewer wake-ups than with the 64 KiB
// that they begin with. Users other than root may have used up their share.
const pipeSize = 1 << 20

// A splicer moves bytes from one file to another within the kernel, without
// copying them, if one of the two is a pipe.
type splicer struct{ dst, src *os.File }

// NewSplicer returns nil unless both are files.
func NewSplicer(w io.Writer, r io.Reader) *splicer {
	dst, ok1 := w.(*os.File)
	src, ok2 := r.(*os.File)
	if !ok1 || !ok2 {
		return nil
	}
	for _, f := range []*os.File{dst, src} {
		unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize) // fails on what is no pipe
	}
	return &splicer{dst, src}
}

// move moves up to n bytes. Where neither file is a pipe, nothing moves and the
// error is EINVAL.
func (s *splicer) move(n int64) (int64, error) {
	for {
		k, err := unix.Splice(int(s.src.Fd()), nil, int(s.dst.Fd()), nil, int(min(n, pipeSize)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, &fs.PathError{Op: "write", Path: s.dst.Name(), Err: err}
		case k == 0:
			return 0, io.EOF
		default:
			return int64(k), nil // an int or an int64, by architecture
		}
	}
}
