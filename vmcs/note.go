package vmcs

import (
	"bytes"
	"unicode"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

var (
	// ErrLayout is wrapped by the errors about contents that give no layout.
	ErrLayout = errors.New("not a VMCS layout")
	// ErrAmbiguous is wrapped by those about contents that can be read in
	// more than one way. A line FORM= in a note's text settles it.
	ErrAmbiguous = errors.New("ambiguous VMCS layout")
)

// maxNote is the size of the largest descriptor that ParseNote takes, in bytes.
const maxNote = 1 << 20

// ParseNote reads a VMCSINFO note's descriptor (n_descsz bytes) in any of its
// published forms, which are told apart by what is in them: text with raw
// cells or with plain offsets, or binary records.
//
// A field that cannot be placed is left out and named in Layout.Warnings, as
// are fields that overlap. An error, with a nil layout, is for a descriptor
// that is too large, is in no known form, states no revision identifier or
// two, has values that fit two forms, or has no field that can be placed. It
// names the line or record, what was found and what was expected.
func ParseNote(desc []byte) (*Layout, error) {
	if len(desc) > maxNote {
		return nil, errors.Wrapf(ErrLayout, "%d bytes, expected %d at most", len(desc), maxNote)
	}
	if physmem.AllZero(desc) {
		return nil, errors.Wrapf(ErrLayout, "%d bytes, all zero: the kernel has not filled the note", len(desc))
	}
	if isText(desc) {
		return parseText(desc)
	}
	return parseRecords(desc)
}

// isText reports whether desc is meant to be text. A damaged text still has
// some of its lines; binary records have zero bytes all over and none of these.
func isText(desc []byte) bool {
	if bytes.Contains(desc, []byte("REVISION_ID=")) || bytes.Contains(desc, []byte("FIELD(")) {
		return true
	}
	text := bytes.TrimSpace(bytes.TrimRight(desc, "\x00"))
	return len(text) > 0 && !bytes.ContainsFunc(text, func(r rune) bool { return (r < ' ' || r > '~') && !unicode.IsSpace(r) })
}
