package vmcore

import (
	"os"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// leaseBreak is how long a lease keeps others from opening the file, less some
// seconds: /proc/sys/fs/lease-break-time is 45 if nobody has changed it.
const leaseBreak = 40 * time.Second

// A lease tells whether others have a file open, and makes those wait who open
// it later. A reader that has begun (scp, rsync, cp) gets neither the old dump
// nor the new one from a file that changes in place.
type lease struct {
	f     *os.File
	taken time.Time
}

// takeLease returns a lease on f, or an error that wraps [ErrNoPlace] if
// another process, or this one, has the file open. It returns nil where the
// kernel does not tell: file systems such as NFS have no leases, and only the
// file's owner and processes with CAP_LEASE get one.
func takeLease(f *os.File) (*lease, error) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	switch {
	case err == nil:
		return &lease{f, time.Now()}, nil
	case errors.Is(err, unix.EAGAIN):
		return nil, errors.Wrap(ErrNoPlace, "another process has the file open, and would read a mixture of old and new")
	}
	return nil, nil
}

// release lets others open the file.
func (l *lease) release() error {
	if l == nil {
		return nil
	}
	_, err := unix.FcntlInt(l.f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return errors.Wrap(err, "lease")
}

// broken reports whether somebody who wanted to open the file has waited so
// long that the kernel may have let them.
func (l *lease) broken() bool {
	if l == nil || time.Since(l.taken) < leaseBreak {
		return false
	}
	kind, err := unix.FcntlInt(l.f.Fd(), unix.F_GETLEASE, 0)
	return err == nil && kind != unix.F_WRLCK
}
