// Package atomicfile writes files that appear whole: a new file has no name
// until it is complete, and then takes its name, or an older file's, in one
// step. It also copies ranges between files, sharing blocks where the file
// system can.
//
// A file's directory is opened once. All names are then looked up in that
// directory, so whoever can rename the directory or put a symbolic link in its
// place cannot lead a privileged process elsewhere.
package atomicfile

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

var (
	// ErrExists is returned if the name is taken, and the file there must stay.
	ErrExists = errors.New("the output file exists")
	// ErrTaken is returned if another file has taken the name meanwhile.
	ErrTaken = errors.New("another file has taken its name")
)

// A File is being written. It has no name yet, so nothing is left behind if
// this process dies; where the file system cannot do that (NFS, FAT), it has a
// name that begins with a dot.
type File struct {
	*os.File
	Path string // where the file is to go

	dir     *os.File    // the directory of Path
	temp    string      // its name in dir until it has its own, or ""
	device  bool        // not new: a device or a pipe that is written to
	was     fs.FileInfo // the file that Finish replaces, or nil
	durable bool        // Finish syncs even a file that replaces none
}

// New creates the file that is to become path. The caller must call Discard.
func New(path string, mode fs.FileMode) (*File, error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	n := &File{Path: path, dir: dir}
	if err := n.create(mode.Perm()); err != nil {
		dir.Close()
		return nil, err
	}
	n.lock()
	n.removeLeftovers()
	return n, nil
}

// openDir opens a directory so that names can be looked up in it. Without the
// permission to read it, it cannot be synced.
func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrPermission) {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create a file in", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func (n *File) create(mode fs.FileMode) error {
	fd, err := unix.Openat(n.dirfd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode))
	if err == nil {
		n.File = os.NewFile(uintptr(fd), n.Path)
		if _, err := os.Stat(procPath(n.File)); err == nil {
			return nil
		}
		n.Close() // without /proc it cannot be given a name later
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) ||
		errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &fs.PathError{Op: "create a file in", Path: n.dir.Name(), Err: err}
	}
	n.temp = n.tempName()
	fd, err = unix.Openat(n.dirfd(), n.temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, uint32(mode))
	if err != nil {
		return &fs.PathError{Op: "create", Path: filepath.Join(n.dir.Name(), n.temp), Err: err}
	}
	n.File = os.NewFile(uintptr(fd), n.Path)
	return nil
}

func (n *File) dirfd() int { return int(n.dir.Fd()) }

func (n *File) base() string { return filepath.Base(n.Path) }

// tempName returns a name that nobody has, within the 255 bytes of a name.
func (n *File) tempName() string {
	return fmt.Sprintf(".%.200s.vmcsnote-%016x", n.base(), rand.Uint64())
}

// Chtimes sets the time of the last access and of the last change.
func (n *File) Chtimes(atime, mtime syscall.Timespec) error {
	times := []unix.Timespec{unix.Timespec(atime), unix.Timespec(mtime)}
	if n.temp != "" {
		return unix.UtimesNanoAt(n.dirfd(), n.temp, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(n.File), times, 0)
}

// Finish completes a file that [Create] returned: it gives the file its name,
// and closes it. A file that replaces another is on disk before it does so.
func (n *File) Finish() error {
	if n.device {
		if err := n.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EROFS) { // as of pipes
			return err
		}
		return n.Close()
	}
	sync := n.flush
	if n.was != nil || n.durable {
		sync = n.Sync
	}
	if err := sync(); err != nil {
		return err
	}
	if err := n.Commit(n.was); err != nil || n.was != nil || !n.durable {
		return err
	}
	return syncDir(n.dir)
}

// flush returns the error that close(2) would: network file systems report then
// that there was no room.
func (n *File) flush() error {
	fd, err := unix.Dup(int(n.Fd()))
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return &fs.PathError{Op: "close", Path: n.Path, Err: err}
	}
	return nil
}

// Commit gives the file its name. If was is nil, it fails with [ErrExists]
// where the name is taken. Otherwise it replaces the file was, fails with
// [ErrTaken] if the name belongs to another file now, and makes the change
// durable.
func (n *File) Commit(was fs.FileInfo) error {
	if was != nil {
		if now, err := n.stat(); err != nil || !sameInode(now, was) {
			return &fs.PathError{Op: "rename", Path: n.Path, Err: ErrTaken}
		}
	}
	if n.temp == "" {
		name := n.base()
		if was != nil {
			name = n.tempName() // link(2) does not replace, rename(2) does
		}
		err := unix.Linkat(unix.AT_FDCWD, procPath(n.File), n.dirfd(), name, unix.AT_SYMLINK_FOLLOW)
		if errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
		if err != nil {
			return &fs.PathError{Op: "create", Path: filepath.Join(n.dir.Name(), name), Err: err}
		}
		if was == nil {
			return nil
		}
		n.temp = name
	}
	if err := n.rename(was != nil); err != nil {
		return &fs.PathError{Op: "rename", Path: n.Path, Err: err}
	}
	n.temp = ""
	if was == nil {
		return nil
	}
	return errors.Wrapf(syncDir(n.dir), "%s was changed, but the change may be lost in a power failure", n.Path)
}

// rename gives the file its name instead of the temporary one.
func (n *File) rename(replace bool) error {
	if replace {
		return unix.Renameat(n.dirfd(), n.temp, n.dirfd(), n.base())
	}
	err := unix.Renameat2(n.dirfd(), n.temp, n.dirfd(), n.base(), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not there
		if _, err = n.stat(); err == nil {
			return ErrExists
		}
		return unix.Renameat(n.dirfd(), n.temp, n.dirfd(), n.base())
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

// stat returns what has the file's name now; a symbolic link is not followed.
func (n *File) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(n.dirfd(), n.base(), &st, unix.AT_SYMLINK_NOFOLLOW)
	return &st, err
}

func sameInode(now *unix.Stat_t, was fs.FileInfo) bool {
	st := was.Sys().(*syscall.Stat_t)
	return now.Dev == st.Dev && now.Ino == st.Ino
}

// Discard closes the file, and removes it unless it was committed.
func (n *File) Discard() {
	n.Close()
	if n.temp != "" {
		unix.Unlinkat(n.dirfd(), n.temp, 0)
		n.temp = ""
	}
	if n.dir != nil {
		n.dir.Close()
	}
}

// procPath returns a path to an open file, for system calls that want one.
func procPath(f *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

func syncDir(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, unix.EBADF) {
		return nil // the directory may be written, but not read
	}
	return err
}

// SyncDir makes durable what was made, renamed or removed in a directory.
func SyncDir(dir string) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncDir(f)
}
