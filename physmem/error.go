package physmem

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

var (
	// ErrNoLoad says that no PT_LOAD of /proc/kcore holds the address.
	ErrNoLoad = errors.New("no PT_LOAD holds this address")

	// ErrNoPaddr says that /proc/kcore gives no physical addresses (Linux before 4.11), and that /proc/iomem did not show where
	// the PT_LOADs lie.
	ErrNoPaddr = errors.New("every p_paddr is 0, and System RAM in /proc/iomem does not match the PT_LOADs")
)

// What was being done to a device.
const (
	opOpen   = "open"
	opHeader = "read headers"
	opRead   = "read"
	opMmap   = "mmap"
)

// Error is a device that could not be opened or read.
type Error struct {
	Device string // path of the device
	Addr   uint64 // physical address of the first byte not read; 0 where Op is not about memory
	Op     string // "open", "read headers", "read" or "mmap"
	Err    error  // a bare unix.Errno where the kernel refused
}

// newError makes an Error. From an error of os or of the runtime it keeps the errno alone: the device is named already.
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
	if e.Op == opRead || e.Op == opMmap {
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

// Hint says what to do about the error, in one line, or is empty where nothing is known to help.
func (e *Error) Hint() string {
	if filepath.Base(e.Device) == "kcore" {
		return e.hintKCore()
	}
	return e.hintDevMem()
}

func (e *Error) hintDevMem() string {
	switch {
	case e.is(unix.EACCES):
		return "run as root"
	case e.is(unix.EPERM) && e.Op == opOpen:
		return "needs CAP_SYS_RAWIO and a kernel that is not locked down (/sys/kernel/security/lockdown); " +
			"read memory from the core, or in the running kernel from /proc/kcore"
	case e.is(unix.EPERM):
		return "the kernel keeps this memory out of /dev/mem (CONFIG_STRICT_DEVMEM or lockdown); " +
			"read it from the core, or in the running kernel from /proc/kcore"
	case e.is(unix.ENOENT, unix.ENXIO):
		return "this kernel has no /dev/mem (CONFIG_DEVMEM=n) or /dev is not mounted; " +
			"read memory from the core, or in the running kernel from /proc/kcore"
	case e.is(unix.EFAULT, unix.EINVAL):
		return "the address lies above high memory or is not RAM; check the pair, or read memory from the core"
	}
	return ""
}

func (e *Error) hintKCore() string {
	switch {
	case e.is(unix.EACCES):
		return "run as root"
	case e.is(unix.EPERM):
		return "needs CAP_SYS_RAWIO and a kernel that is not locked down to confidentiality (/sys/kernel/security/lockdown)"
	case e.is(unix.ENOENT):
		return "this kernel has no /proc/kcore (CONFIG_PROC_KCORE=n) or /proc is not mounted; read memory from /dev/mem"
	case e.is(unix.EFAULT, ErrNoLoad):
		return "the address is not RAM of the running kernel; check the pair, or for a crashed kernel read memory from its core"
	case e.is(ErrNoPaddr):
		return "this kernel is too old to say where its memory lies; read memory from /dev/mem or from the core"
	}
	return ""
}

func (e *Error) is(targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(e.Err, t) })
}
