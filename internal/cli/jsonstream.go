package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// A jsonStream writes a JSON document piece by piece, as env.json writes one that
// is in memory as a whole. It keeps its first error, for end.
type jsonStream struct {
	w     *bufio.Writer
	depth int
	empty bool // nothing has been written into the innermost object or list
	err   error
}

func newJSONStream(w io.Writer) *jsonStream { return &jsonStream{w: bufio.NewWriter(w)} }

// end ends the document.
func (s *jsonStream) end() error {
	s.w.WriteByte('\n')
	if err := s.w.Flush(); s.err == nil {
		s.err = err
	}
	return s.err
}

// next begins what comes next in an object or list.
func (s *jsonStream) next() {
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
func (s *jsonStream) within(brackets string, f func()) {
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

// object writes an object: the document, or an item of a list.
func (s *jsonStream) object(f func()) {
	s.next()
	s.within("{}", f)
}

// list writes a field of an object that is a list.
func (s *jsonStream) list(name string, f func()) {
	s.next()
	s.w.WriteString(`"` + name + `": `)
	s.within("[]", f)
}

// field writes a field of an object.
func (s *jsonStream) field(name string, v any) {
	s.next()
	s.w.WriteString(`"` + name + `": `)
	s.value(v)
}

// item writes an item of a list.
func (s *jsonStream) item(v any) {
	s.next()
	s.value(v)
}

func (s *jsonStream) value(v any) {
	b, err := encodeJSON(v)
	if err != nil {
		if s.err == nil {
			s.err = err
		}
		return
	}
	var indented bytes.Buffer
	json.Indent(&indented, b, strings.Repeat("  ", s.depth), "  ") // b is valid
	s.w.Write(indented.Bytes())
}
