package elfnote

import "fmt"

// A FormatError says what is wrong with notes, and where.
type FormatError struct {
	Off   int64  // in bytes, from the start of the segment or the blob
	What  string // the field, as <elf.h> spells it, or what was looked for
	Found string
	Want  string
}

// Error names the field, the offset, what was found and what was expected.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s at offset %#x: found %s, expected %s", e.What, e.Off, e.Found, e.Want)
}

func hex(n int64) string {
	return fmt.Sprintf("%#x", n)
}
