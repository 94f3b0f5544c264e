package sysfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// CoreType returns "core" or "atom", the type of CPU 0 on a processor that has
// both, and "" on others.
func (fs FS) CoreType() string {
	for _, typ := range []string{"core", "atom"} {
		if cpus, err := fs.read("/sys/devices/cpu_" + typ + "/cpus"); err == nil && first(cpus) == "0" {
			return typ
		}
	}
	return ""
}

// first is the first number in a list of CPUs: "0-7,16".
func first(cpus string) string {
	cpus, _, _ = strings.Cut(strings.TrimSpace(cpus), ",")
	cpus, _, _ = strings.Cut(cpus, "-")
	return cpus
}

// MSR reads a model-specific register of a CPU. It needs root, and the kernel's
// module msr.
func (fs FS) MSR(cpu int, msr uint32) (uint64, error) {
	path := fs.path(fmt.Sprintf("/dev/cpu/%d/msr", cpu))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var b [8]byte
	n, err := unix.Pread(fd, b[:], int64(msr))
	if err == nil && n < len(b) {
		err = unix.EIO
	}
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
