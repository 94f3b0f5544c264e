package atomicfile

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

var (
	// ErrSameFile is returned if the output would be written over the input.
	ErrSameFile = errors.New("input and output are the same file")
	// ErrBlockDevice is returned for a block device without
	// [Options].Overwrite.
	ErrBlockDevice = errors.New("a block device: its contents would be lost")
	// ErrDangling is returned for a symbolic link to a file that is missing.
	ErrDangling = errors.New("a symbolic link to a missing file")
	// ErrNotRegular is returned for a device or a FIFO without
	// [Options].Devices.
	ErrNotRegular = errors.New("not a regular file")
)

// Options say what [Create] may do.
type Options struct {
	Mode fs.FileMode
	// Input, if not nil, is the file that must not be written over.
	Input fs.FileInfo
	// Overwrite lets a file replace an existing one, and a block device be
	// written to. Without it only an empty file is replaced, and one that
	// Replace, if not nil, agrees to after reading it.
	Overwrite bool
	Replace   func(io.Reader) bool
	// Devices lets devices and FIFOs be written to as they are.
	Devices bool
	// Durable makes Finish sync a file even if it replaces none.
	Durable bool
}

// Create prepares to write the file path. It follows symbolic links to an
// existing file, and refuses one that leads nowhere. The caller must call
// Discard, after Finish too.
func Create(path string, opt Options) (*File, error) {
	n, err := create(path, opt)
	switch {
	case err == nil:
		n.durable = opt.Durable
		return n, nil
	case errors.As(err, new(*fs.PathError)):
		return nil, err
	}
	return nil, &fs.PathError{Op: "create", Path: path, Err: err}
}

func create(path string, opt Options) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		if _, err := os.Lstat(path); err == nil {
			return nil, ErrDangling
		}
		return New(path, opt.Mode)
	}
	switch {
	case opt.Input != nil && sameFile(info, opt.Input):
		return nil, ErrSameFile
	case info.IsDir():
		return nil, syscall.EISDIR
	case !info.Mode().IsRegular():
		return openDevice(path, info, opt)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	n, err := New(path, opt.Mode)
	if err != nil {
		return nil, err
	}
	if err := n.mayReplace(info, opt); err != nil {
		n.Discard()
		return nil, err
	}
	n.was = info
	return n, nil
}

// mayReplace makes sure that the name belongs to the file info still, and that
// the file may be replaced.
func (n *File) mayReplace(info fs.FileInfo, opt Options) error {
	fd, err := unix.Openat(n.dirfd(), n.base(), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), n.Path)
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(now, info) {
		return ErrTaken
	}
	if info.Size() == 0 || opt.Overwrite {
		return nil
	}
	if opt.Replace != nil {
		r, err := os.Open(procPath(f))
		if err != nil {
			return err
		}
		defer r.Close()
		if opt.Replace(r) {
			return nil
		}
	}
	return ErrExists
}

// openDevice opens a device or a FIFO. O_EXCL lets no block device be opened
// that is mounted, or in use as swap or by the device mapper.
func openDevice(path string, info fs.FileInfo, opt Options) (*File, error) {
	block := info.Mode().Type() == fs.ModeDevice
	switch {
	case !opt.Devices:
		return nil, ErrNotRegular
	case block && !opt.Overwrite:
		return nil, ErrBlockDevice
	}
	flags := os.O_WRONLY
	if block {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || !sameFile(now, info) {
		f.Close()
		return nil, ErrTaken
	}
	return &File{File: f, Path: path, device: true}, nil
}

// Device reports whether the file is a device or a FIFO, which is written to as
// it is.
func (n *File) Device() bool { return n.device }

// sameFile is [os.SameFile], and knows that a device may have two nodes.
func sameFile(a, b fs.FileInfo) bool {
	if os.SameFile(a, b) {
		return true
	}
	return a.Mode()&fs.ModeDevice != 0 && a.Mode().Type() == b.Mode().Type() &&
		a.Sys().(*syscall.Stat_t).Rdev == b.Sys().(*syscall.Stat_t).Rdev
}
