// Package visible escapes text from dumps and file names, so that a terminal
// shows it and does not obey it.
package visible

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns text with what a terminal would obey or not show as \xNN or
// \uNNNN: control characters but those in keep, marks that turn the direction
// of writing, and bytes that are no UTF-8. Letters of all languages stay.
func Text(text, keep string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1, r < utf8.RuneSelf && !unicode.IsPrint(r) && !strings.ContainsRune(keep, r):
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case r < utf8.RuneSelf || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		text = text[n:]
	}
	return b.String()
}

// Name returns a name out of a dump as ASCII: see [ASCII].
func Name(s string) string { return ASCII(s, "") }

// ASCII returns s with every byte as \xNN that is not printable ASCII or in
// keep; a backslash, too, so that no two texts become one.
func ASCII(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '\\' || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// A Screen is a terminal to write to: it shows what is written as Text returns
// it.
type Screen struct {
	w    io.Writer
	rest []byte // the beginning of a character
}

// NewScreen returns a Screen that writes to w.
func NewScreen(w io.Writer) *Screen { return &Screen{w: w} }

// Write implements io.Writer. It keeps back a character that is not whole yet.
func (s *Screen) Write(p []byte) (int, error) {
	text := append(s.rest, p...)
	whole := len(text)
	for i := max(0, len(text)-utf8.UTFMax+1); i < len(text); i++ {
		if utf8.RuneStart(text[i]) && !utf8.FullRune(text[i:]) {
			whole = i
			break
		}
	}
	s.rest = slices.Clone(text[whole:])
	if _, err := io.WriteString(s.w, Text(string(text[:whole]), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// End writes what is left of a character that ended too early.
func (s *Screen) End() {
	io.WriteString(s.w, Text(string(s.rest), ""))
	s.rest = nil
}
