// Package sysfs reads what a running kernel publishes about itself and vmcsnote
// needs: where the VMCSINFO and VMCOREINFO notes lie in physical memory,
// whether this kernel captures the crash of another, and which boot of which
// release it is.
//
// A kernel names a note by a pair, the physical address and the size of the
// buffer that holds it ([Pair]). The pair says nothing of what is in the
// buffer; reading it is physmem's work.
//
// All files are looked up below a root directory, which is "/" on a real
// machine.
package sysfs

import (
	"os"
	"path/filepath"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// maxFile is the most that is read of one file: a sysfs attribute ends at one
// page, and the largest page in use is 64 KiB.
const maxFile = 64 << 10

// FS is the /sys and /proc of one machine.
type FS struct {
	root string
}

// New returns the FS below root. An empty root is "/".
func New(root string) FS {
	return FS{root: root}
}

func (fs FS) path(name string) string {
	return filepath.Join(fs.root, name)
}

// read returns the text of the file name below the root. It asks for all of it
// with a single read(2): the kernel makes the text anew for each read of a
// sysfs attribute, so that two reads could give the halves of two texts. It
// never blocks, even if the path is a FIFO.
func (fs FS) read(name string) (string, error) {
	path := fs.path(name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, maxFile+1)
	n, err := unix.Read(fd, buf)
	switch {
	case err != nil:
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	case n > maxFile:
		return "", errors.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return string(buf[:n]), nil
}
