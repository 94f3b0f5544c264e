package source

import (
	"fmt"

	"github.com/pkg/errors"
)

var (
	// ErrNone means that there is no note.
	ErrNone = errors.New("no VMCSINFO available")
	// ErrStream means that the memory of a stream was asked for: it arrives
	// after the notes.
	ErrStream = errors.New("a stream's memory arrives after the notes")
)

// An Error is about a source, not about the dump.
type Error struct{ Err error }

// Error returns the text of the error it wraps.
func (e Error) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e Error) Unwrap() error { return e.Err }

// A NotInMemoryError means that a search found no note of that name.
type NotInMemoryError struct{ Name string }

// Error names the note that was searched for.
func (e NotInMemoryError) Error() string {
	return fmt.Sprintf("no intact %s note in the core's memory: %v", e.Name, ErrNone)
}

// Unwrap returns ErrNone.
func (NotInMemoryError) Unwrap() error { return ErrNone }

// A RefutedError means that the dump's VMCSs contradict every note in its
// memory.
type RefutedError struct {
	Notes  int
	Layout string // a built-in one, which explains them
}

// Error tells how many notes there are, and which layout is better.
func (e RefutedError) Error() string {
	notes := "1 VMCSINFO note"
	if e.Notes > 1 {
		notes = fmt.Sprintf("%d VMCSINFO notes", e.Notes)
	}
	return fmt.Sprintf("%s in the core's memory: none explains the dump's VMCSs as the built-in layout %s does: %v", notes, e.Layout, ErrNone)
}

// Unwrap returns ErrNone.
func (RefutedError) Unwrap() error { return ErrNone }

// A SeveralError means that nothing tells apart several notes in memory.
type SeveralError struct {
	Notes int
	Name  string
}

// Error tells how many notes there are.
func (e SeveralError) Error() string {
	return fmt.Sprintf("%d different %s notes in the core's memory", e.Notes, e.Name)
}
