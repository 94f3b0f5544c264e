package inputfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"
)

// ErrForeign says that another user could have written the file. What root
// does on its word would be that user's.
var ErrForeign = errors.New("another user could have written it")

// CheckOwn checks a file that nobody named, but that was found at its place. It
// fails with [ErrForeign] if the file or its directory belongs to another user
// than root and the caller, or can be written by one.
func CheckOwn(path string) error {
	for _, part := range []string{filepath.Dir(path), path} {
		info, err := os.Lstat(part)
		if err != nil {
			return err
		}
		if err := own(info); err != nil {
			return &fs.PathError{Op: "open", Path: part, Err: err}
		}
	}
	return nil
}

// own checks the owner and the mode of a file.
func own(info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return errors.Wrapf(ErrForeign, "owner %d", st.Uid)
	case info.Mode()&fs.ModeSymlink != 0:
		return errors.Wrap(ErrForeign, "a symbolic link")
	case info.Mode()&0o002 != 0, info.Mode()&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid():
		return errors.Wrapf(ErrForeign, "mode %v, group %d", info.Mode().Perm(), st.Gid)
	}
	return nil
}
