package physmem

import (
	"fmt"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

var (
	// ErrNoLoad says that no PT_LOAD of /proc/kcore holds the address.
	ErrNoLoad = errors.New("no PT_LOAD holds this address")

	// ErrNoPaddr says that /proc/kcore has no physical addresses (Linux before
	// 4.11), and that /proc/iomem did not show where the PT_LOADs lie.
	ErrNoPaddr = errors.New("every p_paddr is 0, and System RAM in /proc/iomem does not match the PT_LOADs")
)

// What was done to a device: see [Error].
const (
	OpOpen   = "open"
	OpHeader = "read headers"
	OpRead   = "read"
	OpMmap   = "mmap"
)

// Error is a device that could not be opened or read.
type Error struct {
	Device string // path of the device
	Addr   uint64 // physical address of the first byte not read; 0 where Op is not about memory
	Op     string // OpOpen, OpHeader, OpRead or OpMmap
	Err    error  // a bare unix.Errno where the kernel refused
}

// newError makes an Error. From an error of os or of the runtime it keeps the
// errno alone: the device is named already.
func newError(device, op string, addr uint64, err error) *Error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return &Error{Device: device, Addr: addr, Op: op, Err: err}
}

// Error names the device, the operation, the address and the errno.
func (e *Error) Error() string {
	text := e.Device + ": " + e.Op
	if e.Op == OpRead || e.Op == OpMmap {
		text += fmt.Sprintf(" at %#x", e.Addr)
	}
	var errno unix.Errno
	if errors.As(e.Err, &errno) {
		return fmt.Sprintf("%s: %s (%s)", text, unix.ErrnoName(errno), errno)
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns Err, for errors.Is with an errno, ErrNoLoad or ErrNoPaddr.
func (e *Error) Unwrap() error { return e.Err }
