// Package physmem reads the physical memory of the running machine, through the two files in which Linux shows it:
//
//   - /dev/mem ([OpenDevMem]) is the machine's memory as it lies there, that of a crashed kernel included. Most kernels keep
//     their own RAM out of it (CONFIG_STRICT_DEVMEM), so that it serves in a kdump capture environment.
//   - /proc/kcore ([OpenKCore]) is the RAM of the running kernel alone, as an ELF core. It serves while that kernel is well.
//
// Both may give zeros, without an error, for memory that the kernel will not show (the first MiB in /dev/mem, poisoned or offline
// pages in /proc/kcore): who reads checks what it got. Memory within a dump is read by vmcore, not here.
package physmem

import (
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// Reader reads physical memory.
type Reader interface {
	// ReadPhys fills p from the physical address addr (bytes) on. It returns the number of bytes read, which is less than
	// len(p) only together with an error; the error is an *Error, whose Addr is the first byte not read, and the bytes
	// before it are good.
	ReadPhys(p []byte, addr uint64) (int, error)
	io.Closer
}

var (
	_ Reader = (*DevMem)(nil)
	_ Reader = (*KCore)(nil)
)

// checkRange refuses what pread(2) and mmap(2) cannot address: a range that reaches beyond 2^63. No machine has memory there.
func checkRange(addr uint64, n int) error {
	if addr > math.MaxInt64-uint64(n) {
		return unix.EFAULT
	}
	return nil
}
