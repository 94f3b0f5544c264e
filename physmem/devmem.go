package physmem

import (
	"io"
	"os"
	"path/filepath"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// maxMap bounds the bytes mapped at a time.
const maxMap = 1 << 20

// DevMem reads physical memory through /dev/mem.
type DevMem struct {
	path string
	f    file
}

// OpenDevMem opens /dev/mem below root, which is "/" on a real machine. It
// needs CAP_SYS_RAWIO and a kernel that is not locked down. An error is an
// *Error.
func OpenDevMem(root string) (*DevMem, error) {
	path := filepath.Join(root, "/dev/mem")
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &DevMem{path: path, f: f}, nil
}

// ReadPhys implements Reader. It reads, and maps what it cannot read: on x86
// read(2) gives EFAULT at and above high_memory, the end of what the kernel
// itself maps, and in a capture kernel most of the crashed kernel's memory is
// there. No other errno is cured by mapping.
func (d *DevMem) ReadPhys(p []byte, addr uint64) (int, error) {
	if err := checkRange(addr, len(p)); err != nil {
		return 0, newError(d.path, OpRead, addr, err)
	}
	n, err := d.f.ReadAt(p, int64(addr))
	switch {
	case n == len(p):
		return n, nil
	case err != io.EOF && !errors.Is(err, unix.EFAULT):
		return n, newError(d.path, OpRead, addr+uint64(n), err)
	}
	for n < len(p) {
		m, err := d.readMapped(p[n:], addr+uint64(n))
		if err != nil {
			return n, newError(d.path, OpMmap, addr+uint64(n), err)
		}
		n += m
	}
	return n, nil
}

// readMapped fills the beginning of p through one mapping of the pages from
// addr on, maxMap bytes at most. It returns how many bytes it read.
func (d *DevMem) readMapped(p []byte, addr uint64) (n int, err error) {
	skip := int(addr % uint64(os.Getpagesize()))
	n = min(len(p), maxMap-skip)
	m, err := d.f.Mmap(int64(addr)-int64(skip), skip+n)
	if err != nil {
		return 0, err
	}
	err = copyMapped(p[:n], m[skip:])
	if uerr := d.f.Munmap(m); err == nil {
		err = uerr
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Close closes the device.
func (d *DevMem) Close() error {
	return d.f.Close()
}
