// Package jsonstream writes JSON documents, whole or piece by piece, so that a
// document of thousands of machines is never in memory. Texts that are not
// UTF-8, which JSON cannot hold, get a form that keeps them apart.
package jsonstream

import (
	"bufio"
	"io"
	"reflect"
	"strings"
)

// Write writes one document.
func Write(w io.Writer, v any) error {
	s := New(w)
	s.Item(v)
	return s.End()
}

// A Stream writes a document piece by piece; the bytes are those of Write. It
// keeps its first error, for End.
type Stream struct {
	w     *bufio.Writer
	depth int
	empty bool // nothing has been written into the innermost object or list
	err   error
}

// New returns a stream that writes to w.
func New(w io.Writer) *Stream { return &Stream{w: bufio.NewWriter(w)} }

// End ends the document.
func (s *Stream) End() error {
	s.w.WriteByte('\n')
	if err := s.w.Flush(); s.err == nil {
		s.err = err
	}
	return s.err
}

// next begins what comes next in an object or list.
func (s *Stream) next() {
	if s.depth == 0 {
		return
	}
	if !s.empty {
		s.w.WriteByte(',')
	}
	s.empty = false
	s.w.WriteString("\n" + strings.Repeat("  ", s.depth))
}

// within writes what f writes, between brackets.
func (s *Stream) within(brackets string, f func()) {
	s.w.WriteByte(brackets[0])
	s.depth++
	s.empty = true
	f()
	s.depth--
	if !s.empty {
		s.w.WriteString("\n" + strings.Repeat("  ", s.depth))
	}
	s.empty = false
	s.w.WriteByte(brackets[1])
}

// Object writes an object: the document, or an item of a list.
func (s *Stream) Object(f func()) {
	s.next()
	s.within("{}", f)
}

// List writes a field of an object that is a list.
func (s *Stream) List(name string, f func()) {
	s.name(name)
	s.within("[]", f)
}

// Field writes a field of an object.
func (s *Stream) Field(name string, v any) {
	s.name(name)
	s.value(reflect.ValueOf(v))
}

// Item writes an item of a list.
func (s *Stream) Item(v any) {
	s.next()
	s.value(reflect.ValueOf(v))
}
