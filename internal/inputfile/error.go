package inputfile

import (
	"io/fs"

	"github.com/pkg/errors"
)

// An Error is an error about a file, if it is not an [fs.PathError].
type Error struct {
	Path string // as the caller named the file
	Err  error
}

// Error puts the file's name before the error.
func (e *Error) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// About returns err as an [Error] about the file at path. It returns err itself
// if that is nil, or carries a file's name as an [Error] or an [fs.PathError].
func About(path string, err error) error {
	if err == nil || errors.As(err, new(*Error)) || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return &Error{Path: path, Err: err}
}
