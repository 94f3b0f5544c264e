// Package inputfile opens files to read. A FIFO is an error: to open one waits
// for a writer, for ever if none comes.
package inputfile

import (
	"io/fs"
	"os"

	"github.com/pkg/errors"
)

// ErrFIFO is the error for a FIFO.
var ErrFIFO = errors.New("is a FIFO")

// Open opens the file path for reading.
func Open(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil { // otherwise os.Open tells the error
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
