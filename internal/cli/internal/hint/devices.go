package hint

import (
	"path/filepath"
	"slices"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/physmem"
)

// deviceHint returns the cure for an error of a memory device, or "".
func deviceHint(e *physmem.Error) string {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(e.Err, t) })
	}
	kcore := filepath.Base(e.Device) == "kcore"
	switch {
	case is(unix.EACCES):
		return "run as root"
	case is(unix.EPERM) && kcore:
		return "needs CAP_SYS_RAWIO and a kernel that is not locked down to confidentiality (/sys/kernel/security/lockdown)"
	case is(unix.EPERM) && e.Op == physmem.OpOpen:
		return "needs CAP_SYS_RAWIO and a kernel that is not locked down (/sys/kernel/security/lockdown); " +
			"read memory from the core, or in the running kernel from /proc/kcore"
	case is(unix.EPERM):
		return "the kernel keeps this memory out of /dev/mem (CONFIG_STRICT_DEVMEM or lockdown); " +
			"read it from the core, or in the running kernel from /proc/kcore"
	case is(unix.ENOENT) && kcore:
		return "this kernel has no /proc/kcore (CONFIG_PROC_KCORE=n) or /proc is not mounted; read memory from /dev/mem"
	case is(unix.EFAULT, physmem.ErrNoLoad) && kcore:
		return "the address is not RAM of the running kernel; check the pair, or for a crashed kernel read memory from its core"
	case is(physmem.ErrNoPaddr):
		return "this kernel is too old to tell where its memory lies; read memory from /dev/mem or from the core"
	case is(unix.ENOENT, unix.ENXIO):
		return "this kernel has no /dev/mem (CONFIG_DEVMEM=n) or /dev is not mounted; " +
			"read memory from the core, or in the running kernel from /proc/kcore"
	case is(unix.EFAULT, unix.EINVAL):
		return "the address lies above high memory or is not RAM; check the pair, or read memory from the core"
	}
	return ""
}
