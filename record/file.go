package record

import (
	"io"
	"os"
	"path/filepath"

	"github.com/pkg/errors"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/inputfile"
)

// ReadFile reads the record in the file path. A missing file is os.ErrNotExist.
func ReadFile(path string) (Record, error) {
	f, err := inputfile.Open(path)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Record{}, err
	}
	r, err := Parse(b)
	return r, inputfile.About(path, err)
}

// WriteFile writes r to the file path, mode 0600, and makes the directory, mode
// 0755, if it is missing. It replaces another record and an empty file; any
// other file only if overwrite is set, and a device or a FIFO never. At every
// moment path holds what it held or the whole new record; after WriteFile has
// returned nil, that holds after a power loss too. On an error nothing new is
// left behind, unless the last sync failed. WriteFile does not write a record
// that Parse would refuse.
func WriteFile(path string, r Record, overwrite bool) error {
	text := r.Encode()
	if _, err := Parse(text); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	made, err := makeDir(dir)
	if err != nil {
		return err
	}
	if err := replace(path, text, overwrite); err != nil {
		if made {
			os.Remove(dir)
		}
		return err
	}
	return nil
}

func replace(path string, text []byte, overwrite bool) error {
	f, err := atomicfile.Create(path, atomicfile.Options{Mode: 0o600, Overwrite: overwrite, Replace: isRecord, Durable: true})
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Chmod(0o600); err != nil { // whatever the umask
		return err
	}
	return f.Finish()
}

// isRecord reports whether a file begins as a record does.
func isRecord(r io.Reader) bool {
	b := make([]byte, len(magic))
	_, err := io.ReadFull(r, b)
	return err == nil && Looks(b)
}

// makeDir makes a directory that is missing, durably, and reports whether it
// did.
func makeDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
		os.Remove(dir)
		return false, err
	}
	return true, nil
}
