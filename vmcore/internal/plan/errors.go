package plan

import (
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// Errors that package vmcore exports and explains.
var (
	ErrNotCore    = errors.New("not a vmcore")
	ErrExcluded   = errors.New("excluded from the dump")
	ErrOtherPiece = errors.New("in another piece of the split dump")
	ErrTruncated  = errors.New("the file is truncated")
	ErrNoMemory   = errors.New("not in the dump's memory")
	ErrNoPlace    = errors.New("no safe place for the notes")
	ErrOnePass    = errors.New("cannot be changed in one pass")
	ErrChanged    = errors.New("the file changed meanwhile")
)

// An AddressError is the error for physical memory that cannot be read. Page
// tables lead to many addresses that a dump does not hold, so it keeps no
// stack, and formats no text until it is printed.
type AddressError struct {
	Addr uint64 // of the first byte that could not be read
	Err  error
}

// Error names the address and the fault.
func (e *AddressError) Error() string {
	return fmt.Sprintf("physical address %#x: %v", e.Addr, e.Err)
}

// Unwrap returns Err.
func (e *AddressError) Unwrap() error { return e.Err }

// A FormatError says what is wrong with a dump, and where.
type FormatError struct {
	Off   int64  // file offset in bytes
	What  string // the field, as <elf.h> spells it
	Found string
	Want  string
	Err   error // a sentinel, where one fits
}

// Error names the field, the offset, what was found and what was expected.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s at offset %#x: found %s, expected %s", e.What, e.Off, e.Found, e.Want)
}

// Unwrap returns the sentinel, for errors.Is.
func (e *FormatError) Unwrap() error { return e.Err }

// EmptyFile is what a [FormatError] finds in an empty file.
const EmptyFile = "an empty file"

// FormatErrorf returns a [*FormatError].
//
//go:noinline
func FormatErrorf(off int64, what, found, want string, args ...any) error {
	return &FormatError{Off: off, What: what, Found: found, Want: fmt.Sprintf(want, args...)}
}

// TruncatedErrorf is [FormatErrorf] for what a truncated file does not hold.
func TruncatedErrorf(off int64, what, found, want string, args ...any) error {
	return &FormatError{Off: off, What: what, Found: found, Want: fmt.Sprintf(want, args...), Err: ErrTruncated}
}

// OnePassErrorf is [FormatErrorf] for what only a file allows.
func OnePassErrorf(off int64, what, found, want string, args ...any) error {
	return &FormatError{Off: off, What: what, Found: found, Want: fmt.Sprintf(want, args...), Err: ErrOnePass}
}

// Rebase turns an error of elfnote, whose offset counts from the notes at off,
// into one about the file.
func Rebase(err error, off int64) error {
	var e *elfnote.FormatError
	if errors.As(err, &e) {
		return &FormatError{Off: off + e.Off, What: e.What, Found: e.Found, Want: e.Want}
	}
	return err
}
