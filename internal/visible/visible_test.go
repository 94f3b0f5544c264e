package visible

import (
	"bytes"
	"testing"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "a b\tc\n", "a b\tc\n"},
		{"letters", "дамп 芯", "дамп 芯"},
		{"escape", "\x1b[2J", `\x1b[2J`},
		{"carriage return", "a\rb", `a\x0db`},
		{"delete", "\x7f", `\x7f`},
		{"one of C1", "\u009b2J", `\u009b2J`},
		{"a byte alone", "\x9b2J", `\x9b2J`},
		{"writing from right to left", "a\u202eb", `a\u202eb`},
		{"a tag", "\U000e0041", `\U000e0041`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.text, "\n\t"); got != tt.want {
				t.Errorf("%q, expected %q", got, tt.want)
			}
			// A screen shows the same, however it is written to.
			var b bytes.Buffer
			s := NewScreen(&b)
			for i := range len(tt.text) {
				if n, err := s.Write([]byte(tt.text[i : i+1])); n != 1 || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
			}
			s.End()
			if b.String() != tt.want {
				t.Errorf("%q byte by byte, expected %q", &b, tt.want)
			}
		})
	}
}

func TestScreenEnds(t *testing.T) {
	var b bytes.Buffer
	s := NewScreen(&b)
	s.Write([]byte("a\xe8\x8a"))
	s.End()
	if b.String() != `a\xe8\x8a` {
		t.Errorf("%q", &b)
	}
}
