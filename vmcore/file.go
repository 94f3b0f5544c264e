package vmcore

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/inputfile"
)

// A File is a core on disk.
type File struct {
	Core
	f    *os.File
	name string      // as the caller named it
	path string      // with symbolic links resolved
	info fs.FileInfo // as it was when opened

	packed fs.FileInfo // the file that f was unpacked from, or nil
}

// OpenFile opens a core for reading. The lock it takes lets others read, but
// keeps another vmcsnote from changing the core meanwhile.
func OpenFile(path string) (*File, error) {
	return openFile(path, os.O_RDONLY, syscall.LOCK_SH, Open)
}

// OpenFileAs opens a file for reading, with open, which is [Open], [OpenMemory]
// or [OpenRaw].
func OpenFileAs(path string, open func(io.ReaderAt, int64) (Core, error)) (*File, error) {
	return openFile(path, os.O_RDONLY, syscall.LOCK_SH, open)
}

// OpenUnpacked opens f, to which the compressed dump at path was unpacked; f
// needs no name. Close closes it.
func OpenUnpacked(f *os.File, path string, open func(io.ReaderAt, int64) (Core, error)) (_ *File, err error) {
	o := &File{f: f, name: path, path: path}
	defer o.about(&err)
	info, err := f.Stat()
	if err == nil {
		o.info = info
		o.Core, err = open(f, info.Size())
	}
	if err == nil {
		o.packed, err = os.Stat(path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// OpenFileRW opens a core for changing it in place: only a regular file that
// nobody else is changing ([ErrBusy]). If its mode does not let its owner write
// it, as 0400 after cp /proc/vmcore, a new file can still take its place: see
// [File.Plan].
func OpenFileRW(path string) (*File, error) {
	return openFile(path, os.O_RDWR, syscall.LOCK_EX, Open)
}

func openFile(path string, flag, lock int, open func(io.ReaderAt, int64) (Core, error)) (_ *File, err error) {
	o := &File{name: path}
	defer o.about(&err)
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.IsDir():
		err = syscall.EISDIR
	case inputfile.Check(path, info) != nil:
		err = inputfile.ErrFIFO
	case flag == os.O_RDWR && !info.Mode().IsRegular():
		err = errors.New("only a regular file can be changed in place")
	}
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err // that of opening the file
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, flag, 0)
	if flag == os.O_RDWR && errors.Is(err, syscall.EACCES) && int(statT(info).Uid) == os.Geteuid() {
		f, err = os.OpenFile(path, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	o.f = f
	if o.path, err = filepath.EvalSymlinks(path); err != nil {
		f.Close()
		return nil, err
	}
	if err := o.open(lock, open); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// about gives an error the file's name.
func (o *File) about(err *error) { *err = inputfile.About(o.name, *err) }

func (o *File) open(lock int, open func(io.ReaderAt, int64) (Core, error)) error {
	switch err := syscall.Flock(int(o.f.Fd()), lock|syscall.LOCK_NB); err {
	case nil:
	case syscall.EWOULDBLOCK:
		return ErrBusy
	case syscall.ENOLCK, syscall.ENOTSUP, syscall.ENOSYS, syscall.EBADF, syscall.EINVAL:
		// A file system without locks, as in some initramfs.
	default:
		return errors.Wrap(err, "lock")
	}
	var err error
	if o.info, err = o.f.Stat(); err != nil {
		return err
	}
	// The file may have been replaced while we waited: whoever did so held the
	// old file's lock.
	if now, err := os.Stat(o.path); err != nil || !os.SameFile(now, o.info) {
		return errors.Wrap(ErrChanged, "replaced by another file while opening it")
	}
	size := o.info.Size()
	if !o.info.Mode().IsRegular() { // a block device: the raw target of a dump
		if size, err = o.f.Seek(0, io.SeekEnd); err != nil {
			return errors.Wrapf(err, "%v has no size", o.info.Mode())
		}
	}
	o.Core, err = open(o.f, size)
	return err
}

// input is the file that a copy must not be written over, and has the mode of.
func (o *File) input() fs.FileInfo {
	if o.packed != nil {
		return o.packed
	}
	return o.info
}

// plain is the dump in plain form, whose offsets are those of the Core: the
// file itself, unless it is flattened.
func (o *File) plain() io.ReaderAt {
	if f, ok := asFlat(o); ok {
		return f
	}
	return o.f
}

// flat reports whether the file is flattened.
func (o *File) flat() bool {
	_, ok := asFlat(o)
	return ok
}

// writable returns an error that wraps [ErrReadOnly] if the permissions of the
// file do not let this process write to it.
func (o *File) writable() error {
	err := unix.Faccessat(unix.AT_FDCWD, o.path, unix.W_OK, unix.AT_EACCESS)
	if errors.Is(err, unix.EACCES) {
		return errors.Wrapf(ErrReadOnly, "mode %#o, owner uid %d", o.info.Mode().Perm(), statT(o.info).Uid)
	}
	return nil
}

// Close closes the file and releases the lock.
func (o *File) Close() error { return o.f.Close() }

// unchanged makes sure that the file is as it was when its headers were read:
// makedumpfile may still be writing it.
func (o *File) unchanged() error {
	now, err := o.f.Stat()
	if err == nil {
		err = o.sizeIs(o.info.Size())
	}
	if err == nil && !now.ModTime().Equal(o.info.ModTime()) {
		err = errors.Wrap(ErrChanged, "written to since it was opened")
	}
	return err
}

// sizeIs makes sure that nobody has made the file longer or shorter.
func (o *File) sizeIs(want int64) error {
	now, err := o.f.Stat()
	if err == nil && now.Size() != want {
		err = errors.Wrapf(ErrChanged, "%#x bytes now, expected %#x", now.Size(), want)
	}
	return err
}
