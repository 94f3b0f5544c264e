package physmem

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"vmcsnote/internal/inputfile"
)

// file is what the readers need of an open device. Tests use their own, to see
// each errno without a kernel that returns it.
type file interface {
	io.ReaderAt
	io.Closer
	Mmap(off int64, size int) ([]byte, error)
	Munmap(b []byte) error
}

// osFile is a real file.
type osFile struct {
	*os.File
}

func (f osFile) Mmap(off int64, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), off, size, unix.PROT_READ, unix.MAP_SHARED)
}

func (f osFile) Munmap(b []byte) error {
	return unix.Munmap(b)
}

func open(path string) (file, error) {
	f, err := inputfile.Open(path)
	if err != nil {
		return nil, newError(path, OpOpen, 0, err)
	}
	return osFile{f}, nil
}

// copyMapped copies from a mapping, src, to dst. A mapped page that cannot be
// read, be it poisoned memory or an address after which there is nothing,
// raises SIGBUS; here that is EFAULT, as read(2) would have given, and what dst
// holds is undefined.
func copyMapped(dst, src []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface {
			runtime.Error
			Addr() uintptr // only a fault has one
		}:
			err = unix.EFAULT
		default:
			panic(r)
		}
	}()
	copy(dst, src)
	return nil
}
