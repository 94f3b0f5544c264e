package record

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"
)

// ErrForeign says that another user could have written the record. What root
// adds to a dump on its word would be that user's.
var ErrForeign = errors.New("another user could have written it")

// ReadOwn is [ReadFile] for a record that nobody named, but that was found at
// its place. It fails with [ErrForeign] if the file or its directory belongs to
// another user than root and the caller, or can be written by one.
func ReadOwn(path string) (Record, error) {
	for _, part := range []string{filepath.Dir(path), path} {
		info, err := os.Lstat(part)
		if err != nil {
			return Record{}, err
		}
		if err := own(info); err != nil {
			return Record{}, &fs.PathError{Op: "open", Path: part, Err: err}
		}
	}
	return ReadFile(path) // in a directory where only root can put another one
}

// own checks the owner and the mode of a file.
func own(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return nil
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return errors.Wrap(ErrForeign, fmt.Sprintf("owner %d", st.Uid))
	case info.Mode()&fs.ModeSymlink != 0:
		return errors.Wrap(ErrForeign, "a symbolic link")
	case info.Mode()&0o002 != 0, info.Mode()&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid():
		return errors.Wrap(ErrForeign, fmt.Sprintf("mode %v, group %d", info.Mode().Perm(), st.Gid))
	}
	return nil
}
