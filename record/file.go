package record

import (
	"io"
	"os"
	"path/filepath"

	"github.com/pkg/errors"
)

// ReadFile reads the record in the file path. A missing file is os.ErrNotExist.
func ReadFile(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Record{}, err
	}
	r, err := Parse(b)
	return r, errors.Wrap(err, path)
}

// WriteFile writes r to the file path, mode 0600, and makes the directory it is in, mode 0755, if that is missing. At every moment
// path holds what it held or the whole new record, and once WriteFile has returned nil it is the new one after a power loss too. On
// an error nothing new is left behind, unless the error is that of the last sync. A record that Parse would refuse is not written.
func WriteFile(path string, r Record) error {
	text := r.Encode()
	if _, err := Parse(text); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	made, err := makeDir(dir)
	if err != nil {
		return err
	}
	if err := replace(path, text); err != nil {
		if made {
			os.Remove(dir)
		}
		return err
	}
	return syncDir(dir)
}

// makeDir makes a directory that is missing, durably, and reports whether it did.
func makeDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		os.Remove(dir)
		return false, err
	}
	return true, nil
}

// replace puts a new file with this text in the place of path, by way of a temporary one beside it.
func replace(path string, text []byte) (err error) {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+base+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = writeSync(f, text); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeSync writes the text to f, mode 0600 whatever the umask, and closes it.
func writeSync(f *os.File, text []byte) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncDir makes what was made, renamed or removed in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
