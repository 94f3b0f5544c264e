// Package physmem defines how the project reads physical memory: a [Reader]
// reads it, a [Memory] also lists each [Range] that there is. Package vmcore
// reads the memory in a dump, and package guest that of a guest.
//
// This package itself reads the memory of the running machine, through the two
// files in which Linux shows it:
//
//   - /dev/mem ([OpenDevMem]) is the machine's memory as it lies there, that of
//     a crashed kernel included. Most kernels keep their own RAM out of it
//     (CONFIG_STRICT_DEVMEM), so that it serves in a kdump capture environment.
//   - /proc/kcore ([OpenKCore]) is the RAM of the running kernel alone, as an
//     ELF core. It serves while that kernel is well.
//
// Both may read as zeros, without an error, where the kernel will not show its
// memory (the first MiB in /dev/mem, poisoned or offline pages in /proc/kcore):
// callers must check what they read.
package physmem

import (
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// A Device is the memory of the running machine, to be closed after use. An
// error of its ReadPhys is an [*Error].
type Device interface {
	Reader
	io.Closer
}

var (
	_ Device = (*DevMem)(nil)
	_ Device = (*KCore)(nil)
)

// checkRange refuses what pread(2) and mmap(2) cannot address: a range that
// reaches beyond 2^63. No machine has memory there.
func checkRange(addr uint64, n int) error {
	if addr > math.MaxInt64-uint64(n) {
		return unix.EFAULT
	}
	return nil
}
