package vmcore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// A pending file is being written and has no name yet, so that nothing is left
// behind if this process dies; or, where the file system cannot do that (NFS,
// FAT), a name that begins with a dot.
type pending struct {
	f    *os.File
	path string // where it is to go
	temp string // its name until then, if it has one

	device  bool // not new at all: a device or a pipe that is written to
	replace bool // path may be there
}

// openOutput prepares to write the file out, which must not be the file in. An
// existing file is replaced if it is empty, or if the options say so.
func openOutput(out string, mode fs.FileMode, in fs.FileInfo, opt Options) (*pending, error) {
	info, err := os.Stat(out)
	if err != nil {
		if _, err := os.Lstat(out); err == nil {
			return nil, &fs.PathError{Op: "create", Path: out, Err: errors.New("a symbolic link that leads nowhere")}
		}
		return newFile(out, mode)
	}
	if in != nil && os.SameFile(info, in) {
		return nil, &fs.PathError{Op: "create", Path: out, Err: ErrSameFile}
	}
	if !info.Mode().IsRegular() {
		f, err := os.OpenFile(out, os.O_WRONLY, 0)
		return &pending{f: f, path: out, device: true}, err
	}
	if info.Size() > 0 && !opt.Overwrite {
		return nil, &fs.PathError{Op: "create", Path: out, Err: ErrExists}
	}
	if out, err = filepath.EvalSymlinks(out); err != nil {
		return nil, err
	}
	n, err := newFile(out, mode)
	if err == nil {
		n.replace = true
	}
	return n, err
}

// finish makes the file what it was to become. One that takes the place of
// another is on disk before it does.
func (n *pending) finish() error {
	if n.device {
		return n.f.Close()
	}
	if n.replace {
		if err := n.f.Sync(); err != nil {
			return err
		}
	}
	return n.commit(n.replace)
}

// newFile creates the file that is to become path.
func newFile(path string, mode fs.FileMode) (*pending, error) {
	n := &pending{path: path}
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
	if err == nil {
		n.f = os.NewFile(uintptr(fd), path)
		return n, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) {
		return nil, &fs.PathError{Op: "create a file in", Path: dir, Err: err}
	}
	n.temp = n.tempName()
	n.f, err = os.OpenFile(n.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode.Perm())
	return n, err
}

func (n *pending) tempName() string {
	return filepath.Join(filepath.Dir(n.path), fmt.Sprintf(".%s.vmcsnote-%d", filepath.Base(n.path), os.Getpid()))
}

// commit gives the file its name, and makes the name durable. Without replace
// it fails with [ErrExists] where that name is taken.
func (n *pending) commit(replace bool) error {
	if n.temp == "" {
		name := n.path
		if replace {
			name = n.tempName() // link(2) does not replace, rename(2) does
		}
		err := unix.Linkat(unix.AT_FDCWD, procPath(n.f), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
		if err != nil {
			return &fs.PathError{Op: "create", Path: name, Err: err}
		}
		if !replace {
			return nil
		}
		n.temp = name
	}
	flags := uint(0)
	if !replace {
		flags = unix.RENAME_NOREPLACE
	}
	err := unix.Renameat2(unix.AT_FDCWD, n.temp, unix.AT_FDCWD, n.path, flags)
	if errors.Is(err, unix.EINVAL) && !replace { // no such flag there
		err = os.Link(n.temp, n.path)
		if err == nil {
			err = os.Remove(n.temp)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		err = ErrExists
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: n.path, Err: err}
	}
	n.temp = ""
	if !replace {
		return nil
	}
	return syncDir(filepath.Dir(n.path))
}

// discard closes the file, and removes it unless it was committed.
func (n *pending) discard() {
	n.f.Close()
	if n.temp != "" {
		os.Remove(n.temp)
	}
}

// procPath is a name by which system calls that want one reach an open file.
func procPath(f *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// replaceable reports, as an error that wraps [ErrNoPlace], why a new file
// could not take the core's place that way.
func (o *File) replaceable(pl Placement) error {
	st, err := statT(o.info)
	if err != nil {
		return err
	}
	if st.Nlink != 1 {
		return errors.Wrapf(ErrNoPlace, "the file has %d names, and a new one would have but one", st.Nlink)
	}
	n, err := newFile(o.path, 0o600)
	if err != nil {
		return errors.Wrap(ErrNoPlace, err.Error())
	}
	defer n.discard()
	if pl == Clone {
		if err := cloneRange(n.f, o.f, 0, 0, pageSize); err != nil {
			return errors.Wrapf(ErrNoPlace, "the file system does not share blocks (%v)", err)
		}
		return nil
	}
	var free unix.Statfs_t
	if err := unix.Fstatfs(int(n.f.Fd()), &free); err != nil {
		return errors.Wrap(err, "statfs")
	}
	if have, need := int64(free.Bavail)*int64(free.Bsize), st.Blocks*512; have < need {
		return errors.Wrapf(ErrNoPlace, "a copy needs %d bytes, the file system has %d free", need, have)
	}
	return nil
}
