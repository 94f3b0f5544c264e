package physmem

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

func TestError(t *testing.T) {
	const mem, kcore = "/dev/mem", "/proc/kcore"
	for _, tt := range []struct {
		name string
		err  *Error
		text string
	}{
		{"not root", newError(mem, OpOpen, 0, &os.PathError{Op: "open", Path: mem, Err: unix.EACCES}),
			"/dev/mem: open: EACCES (permission denied)"},
		{"locked down", newError(mem, OpOpen, 0, unix.EPERM),
			"/dev/mem: open: EPERM (operation not permitted)"},
		{"CONFIG_STRICT_DEVMEM, read", newError(mem, OpRead, 0x1cba8c0, unix.EPERM),
			"/dev/mem: read at 0x1cba8c0: EPERM (operation not permitted)"},
		{"CONFIG_STRICT_DEVMEM, mmap", newError(mem, OpMmap, 0x1cba8c0, unix.EPERM),
			"/dev/mem: mmap at 0x1cba8c0: EPERM (operation not permitted)"},
		{"CONFIG_DEVMEM=n", newError(mem, OpOpen, 0, unix.ENOENT),
			"/dev/mem: open: ENOENT (no such file or directory)"},
		{"a node without a driver", newError(mem, OpOpen, 0, unix.ENXIO),
			"/dev/mem: open: ENXIO (no such device or address)"},
		{"nothing there", newError(mem, OpMmap, 0, unix.EFAULT),
			"/dev/mem: mmap at 0x0: EFAULT (bad address)"},
		{"address wider than the CPU's", newError(mem, OpMmap, 1<<51, unix.EINVAL),
			"/dev/mem: mmap at 0x8000000000000: EINVAL (invalid argument)"},
		{"an errno without a cure", newError(mem, OpRead, 0, unix.EIO), "/dev/mem: read at 0x0: EIO (input/output error)"},
		{"kcore, not root", newError(kcore, OpOpen, 0, unix.EACCES), "/proc/kcore: open: EACCES (permission denied)"},
		{"kcore, locked down", newError(kcore, OpOpen, 0, unix.EPERM),
			"/proc/kcore: open: EPERM (operation not permitted)"},
		{"CONFIG_PROC_KCORE=n", newError(kcore, OpOpen, 0, unix.ENOENT),
			"/proc/kcore: open: ENOENT (no such file or directory)"},
		{"kcore, not RAM", newError(kcore, OpRead, 0x1000, ErrNoLoad),
			"/proc/kcore: read at 0x1000: no PT_LOAD holds this address"},
		{"kcore, old kernel", newError(kcore, OpHeader, 0, errors.Wrap(ErrNoPaddr, "1 range")),
			"/proc/kcore: read headers: 1 range: " + ErrNoPaddr.Error()},
		{"kcore, cut short", newError(kcore, OpRead, 0x1000, io.ErrUnexpectedEOF),
			"/proc/kcore: read at 0x1000: unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.text {
				t.Errorf("Error() = %q, want %q", got, tt.text)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	root := t.TempDir()
	_, memErr := OpenDevMem(root)
	_, kcoreErr := OpenKCore(root)
	for path, err := range map[string]error{"dev/mem": memErr, "proc/kcore": kcoreErr} {
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, unix.ENOENT) || e.Op != OpOpen || e.Device != filepath.Join(root, path) {
			t.Errorf("%s: got %v, want ENOENT", path, err)
		}
	}
}

// checkError fails the test unless err is an *Error at addr that is want, or is
// nil where want is nil.
func checkError(t *testing.T, err, want error, addr uint64) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return
	}
	var e *Error
	if !errors.Is(err, want) || !errors.As(err, &e) || e.Addr != addr {
		t.Errorf("got error %v, want %v at %#x", err, want, addr)
	}
}
