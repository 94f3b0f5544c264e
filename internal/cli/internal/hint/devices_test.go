package hint

import (
	"io"
	"strings"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/physmem"
)

func TestDeviceHint(t *testing.T) {
	const mem, kcore = "/dev/mem", "/proc/kcore"
	for _, tt := range []struct {
		name, device, op string
		err              error
		want             string // part of the hint, "" for none
	}{
		{"not root", mem, physmem.OpOpen, unix.EACCES, "run as root"},
		{"locked down", mem, physmem.OpOpen, unix.EPERM, "CAP_SYS_RAWIO"},
		{"CONFIG_STRICT_DEVMEM, read", mem, physmem.OpRead, unix.EPERM, "CONFIG_STRICT_DEVMEM"},
		{"CONFIG_STRICT_DEVMEM, mmap", mem, physmem.OpMmap, unix.EPERM, "/proc/kcore"},
		{"CONFIG_DEVMEM=n", mem, physmem.OpOpen, unix.ENOENT, "CONFIG_DEVMEM=n"},
		{"a node without a driver", mem, physmem.OpOpen, unix.ENXIO, "CONFIG_DEVMEM=n"},
		{"nothing there", mem, physmem.OpMmap, unix.EFAULT, "high memory"},
		{"address wider than the CPU's", mem, physmem.OpMmap, unix.EINVAL, "check the pair"},
		{"an errno without a cure", mem, physmem.OpRead, unix.EIO, ""},
		{"kcore, not root", kcore, physmem.OpOpen, unix.EACCES, "run as root"},
		{"kcore, locked down", kcore, physmem.OpOpen, unix.EPERM, "confidentiality"},
		{"CONFIG_PROC_KCORE=n", kcore, physmem.OpOpen, unix.ENOENT, "CONFIG_PROC_KCORE=n"},
		{"kcore, not RAM", kcore, physmem.OpRead, physmem.ErrNoLoad, "not RAM of the running kernel"},
		{"kcore, old kernel", kcore, physmem.OpHeader, errors.Wrap(physmem.ErrNoPaddr, "1 range"), "too old"},
		{"kcore, cut short", kcore, physmem.OpRead, io.ErrUnexpectedEOF, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Of(errors.Wrap(&physmem.Error{Device: tt.device, Op: tt.op, Err: tt.err}, "read"))
			if tt.want == "" && deviceHint(&physmem.Error{Device: tt.device, Op: tt.op, Err: tt.err}) != "" || !strings.Contains(got, tt.want) {
				t.Errorf("hint is %q, expected one with %q", got, tt.want)
			}
		})
	}
}
