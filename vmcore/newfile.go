package vmcore

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
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
	if in != nil && sameFile(info, in) {
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

// sameFile is [os.SameFile], and knows that a device may have two nodes.
func sameFile(a, b fs.FileInfo) bool {
	if os.SameFile(a, b) {
		return true
	}
	x, err1 := statT(a)
	y, err2 := statT(b)
	device := a.Mode()&fs.ModeDevice != 0 && b.Mode()&fs.ModeDevice != 0 && a.Mode().Type() == b.Mode().Type()
	return err1 == nil && err2 == nil && device && x.Rdev == y.Rdev
}

// finish makes the file what it was to become. One that takes the place of
// another is on disk before it does.
func (n *pending) finish() error {
	if n.device {
		if err := n.f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EROFS) { // as of pipes
			return err
		}
		return n.f.Close()
	}
	sync := n.flush
	if n.replace {
		sync = n.f.Sync
	}
	if err := sync(); err != nil {
		return err
	}
	return n.commit(n.replace)
}

// flush does what close(2) does and tells its error: network file systems say
// then that there was no room.
func (n *pending) flush() error {
	fd, err := unix.Dup(int(n.f.Fd()))
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return &fs.PathError{Op: "close", Path: n.path, Err: err}
	}
	return nil
}

// newFile creates the file that is to become path.
func newFile(path string, mode fs.FileMode) (*pending, error) {
	n := &pending{path: path}
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
	if err == nil {
		n.f = os.NewFile(uintptr(fd), path)
		if _, err := os.Stat(procPath(n.f)); err == nil {
			return n, nil
		}
		n.f.Close() // without /proc it cannot be given a name later
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) {
		return nil, &fs.PathError{Op: "create a file in", Path: dir, Err: err}
	}
	n.temp = n.tempName()
	n.f, err = os.OpenFile(n.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode.Perm())
	return n, err
}

// tempName returns a name that nobody has, within the 255 bytes of a name.
func (n *pending) tempName() string {
	base := filepath.Base(n.path)
	return filepath.Join(filepath.Dir(n.path), fmt.Sprintf(".%.200s.vmcsnote-%016x", base, rand.Uint64()))
}

// name is a path by which the file can be reached now.
func (n *pending) name() string {
	if n.temp != "" {
		return n.temp
	}
	return procPath(n.f)
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
	if err := n.rename(replace); err != nil {
		return &fs.PathError{Op: "rename", Path: n.path, Err: err}
	}
	n.temp = ""
	if !replace {
		return nil
	}
	return errors.Wrapf(syncDir(filepath.Dir(n.path)), "%s has been changed, but may not outlive a power failure", n.path)
}

// rename gives the file its name in the place of the temporary one.
func (n *pending) rename(replace bool) error {
	if replace {
		return os.Rename(n.temp, n.path)
	}
	err := unix.Renameat2(unix.AT_FDCWD, n.temp, unix.AT_FDCWD, n.path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not there
		if _, err = os.Lstat(n.path); err == nil {
			return ErrExists
		}
		return os.Rename(n.temp, n.path)
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
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
	if errors.Is(err, fs.ErrPermission) {
		return nil // it may be written, but not read
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// isMount reports whether a file is mounted on its own, as in containers.
func isMount(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// stillWritten refuses to put a new file in the place of a core that is not
// complete, if anybody else has it open: whoever still writes it would go on
// writing to a file without a name. A lease is what tells.
func (o *File) stillWritten() error {
	if o.claimed() <= o.size() {
		return nil
	}
	if _, err := unix.FcntlInt(o.f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return errors.Wrapf(ErrNoPlace, "the file is not complete, and somebody may still be writing it (%v)", err)
	}
	_, err := unix.FcntlInt(o.f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return errors.Wrap(err, "lease")
}

// replaceable reports, as an error that wraps [ErrNoPlace], why a new file
// could not take the core's place that way.
func (o *File) replaceable(pl Placement) error {
	st, err := statT(o.info)
	if err != nil {
		return err
	}
	switch euid := os.Geteuid(); {
	case st.Nlink != 1:
		return errors.Wrapf(ErrNoPlace, "the file has %d names, and a new one would have but one", st.Nlink)
	case euid != 0 && int(st.Uid) != euid:
		return errors.Wrapf(ErrNoPlace, "a new file could not be given to its owner, uid %d", st.Uid)
	case isMount(o.path):
		return errors.Wrap(ErrNoPlace, "the file is a mount point")
	case pl == Clone && o.flat():
		return errors.Wrap(ErrNoPlace, "the records of a flattened dump cannot be shifted by blocks")
	}
	if err := o.stillWritten(); err != nil {
		return err
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
