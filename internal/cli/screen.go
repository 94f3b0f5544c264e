package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible returns text with what a terminal would obey or not show as \xNN or
// \uNNNN: control characters but those in keep, marks that turn the direction of
// writing, and bytes that are no UTF-8. Letters of all languages stay.
func visible(text, keep string) string {
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

// A screen is a terminal as standard output: what is written to it is made
// visible.
type screen struct {
	w    io.Writer
	rest []byte // the beginning of a character
}

func (s *screen) Write(p []byte) (int, error) {
	text := append(s.rest, p...)
	whole := len(text)
	for i := max(0, len(text)-utf8.UTFMax+1); i < len(text); i++ {
		if utf8.RuneStart(text[i]) && !utf8.FullRune(text[i:]) {
			whole = i
			break
		}
	}
	s.rest = slices.Clone(text[whole:])
	if _, err := io.WriteString(s.w, visible(string(text[:whole]), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end writes what is left of a character that ended too early.
func (s *screen) end() {
	io.WriteString(s.w, visible(string(s.rest), ""))
	s.rest = nil
}
