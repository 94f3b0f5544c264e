package elfnote

import (
	"bytes"
	"encoding/binary"

	"github.com/pkg/errors"
)

// MaxBlob bounds a blob, in bytes: some 200 times the buffer that the kernel
// patches of 2012 used.
const MaxBlob = 1 << 20

// MaxVMCoreInfo bounds the text of a VMCOREINFO note that is read, in bytes.
// The kernel's buffer has one page, 64 KiB at most.
const MaxVMCoreInfo = 64 << 10

// ErrBlob is wrapped by every error of [FromBlob].
var ErrBlob = errors.New("not a note blob")

// textStart is what the VMCSINFO text begins with in each of its text forms
// (version 1 of the 2012 patch set, and later modules).
const textStart = "REVISION_ID="

// FromBlob takes the one note out of a blob. A blob is what the address and
// size in /sys/kernel/vmcsinfo lead to: one complete note of the name and type
// given, then zero fill to the buffer's end. Two more forms are accepted: the
// note in the other byte order than the core's, and the VMCSINFO text alone (it
// begins with REVISION_ID=), of which FromBlob makes a note.
//
// A blob that holds anything else, no note, another note, two notes, or more
// than [MaxBlob] bytes is an error that wraps [ErrBlob].
func FromBlob(b []byte, name string, typ uint32, order binary.ByteOrder) (Note, error) {
	if err := checkBlob(b, name); err != nil {
		return Note{}, err
	}
	if name == VMCSInfo && bytes.HasPrefix(b, []byte(textStart)) {
		text, fill, _ := bytes.Cut(b, []byte{0})
		if !allZero(fill) {
			return Note{}, errors.Wrapf(ErrBlob, "text of %d bytes with more than zeros after it", len(text))
		}
		return Note{Name: name, Type: typ, Desc: text}, nil
	}
	s, err := parseBlob(b, order)
	if err != nil {
		return Note{}, errors.Wrap(ErrBlob, err.Error())
	}
	return s.only(name, typ)
}

// Wrap is [FromBlob] for bytes that a person has chosen for a note of any name:
// if they are not made of notes, they are taken for its descriptor.
func Wrap(b []byte, name string, typ uint32, order binary.ByteOrder) (Note, error) {
	if err := checkBlob(b, name); err != nil {
		return Note{}, err
	}
	if _, err := parseBlob(b, order); err != nil && name != VMCSInfo {
		return Note{Name: name, Type: typ, Desc: b}, nil
	}
	return FromBlob(b, name, typ, order)
}

func checkBlob(b []byte, name string) error {
	if len(b) > MaxBlob {
		return errors.Wrapf(ErrBlob, "%d bytes, expected at most %d", len(b), MaxBlob)
	}
	if allZero(b) {
		return errors.Wrapf(ErrBlob, "%d bytes, all zero, expected a %s note", len(b), name)
	}
	return nil
}

// parseBlob walks the notes in either byte order, that given first.
func parseBlob(b []byte, order binary.ByteOrder) (*Segment, error) {
	s, err := Parse(bytes.NewReader(b), int64(len(b)), order)
	if err != nil {
		if t, err2 := Parse(bytes.NewReader(b), int64(len(b)), other(order)); err2 == nil {
			return t, nil
		}
	}
	return s, err
}

// only returns the one note of the segment, if it has that name and type.
func (s *Segment) only(name string, typ uint32) (Note, error) {
	switch {
	case len(s.Notes) == 0:
		return Note{}, errors.Wrapf(ErrBlob, "zeros at offset 0x0, expected a %s note", name)
	case len(s.Notes) > 1:
		return Note{}, errors.Wrapf(ErrBlob, "%d notes (%q at offset 0x0, %q at offset %#x), expected one %s note",
			len(s.Notes), s.Notes[0].Name, s.Notes[1].Name, s.Notes[1].Off, name)
	case s.Notes[0].Name != name:
		return Note{}, errors.Wrapf(ErrBlob, "the note at offset 0x0 is named %q, expected %q", s.Notes[0].Name, name)
	case s.Notes[0].Type != typ:
		return Note{}, errors.Wrapf(ErrBlob, "the %s note at offset 0x0 is of type %#x, expected %#x", name, s.Notes[0].Type, typ)
	case s.Notes[0].DescSize == 0:
		return Note{}, errors.Wrapf(ErrBlob, "the %s note at offset 0x0 is empty", name)
	}
	n, err := s.Note(0, MaxBlob)
	return n, errors.Wrap(err, name)
}

func other(order binary.ByteOrder) binary.ByteOrder {
	if order == binary.ByteOrder(binary.LittleEndian) {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
