// Package inputfile opens files to read. A FIFO is an error: opening it
// waits for a writer, for ever if none comes.
package inputfile

import (
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/pkg/errors"
)

var (
	// ErrFIFO is the error for a FIFO.
	ErrFIFO = errors.New("is a FIFO")
	// ErrTooLarge is the error for a file larger than ReadAll's limit.
	ErrTooLarge = errors.New("too large")
)

// Open opens the file path for reading.
func Open(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil { // otherwise os.Open returns the error
		if err := Check(path, info); err != nil {
			return nil, err
		}
	}
	return os.Open(path)
}

// Check returns an error if info, of the file path, is that of a FIFO.
func Check(path string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeNamedPipe == 0 {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: ErrFIFO}
}

// ReadAll reads a file of at most limit bytes. It may be a FIFO that has a
// writer, as a shell's <(command) is, but it does not wait for one.
func ReadAll(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	fifo := err
	if errors.Is(err, ErrFIFO) {
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(b) == 0 && fifo != nil {
		return nil, errors.Wrap(fifo, "nobody writes to it")
	}
	if err == nil && int64(len(b)) > limit {
		err = errors.WithMessagef(ErrTooLarge, "%s: more than %d bytes", path, limit)
	}
	return b, err
}
