package lzo

import (
	"strings"
	"testing"
)

func TestDecompress(t *testing.T) {
	const end = "\x11\x00\x00"
	for _, tt := range []struct {
		name, src string
		size      int // of the page
		want      string
		err       error
	}{
		{"a run of literals at the start", "\x16abcde" + end, 5, "abcde", nil},
		{"a copy that overlaps itself", "\x15abcd\x20\x01\x00\x00" + end, 38, "abcd" + strings.Repeat("d", 34), nil},
		{"a page with room left", "\x16abcde" + end, 64, "abcde", nil},
		{"a page too small", "\x16abcde" + end, 4, "", ErrFormat},
		{"a copy from before the page", "\x15abcd\x20\x01\x10\x00" + end, 64, "abcd", ErrFormat},
		{"no end", "\x16abcde", 5, "abcde", ErrFormat},
		{"bytes after the end", "\x16abcde" + end + "\x00", 5, "abcde", ErrFormat},
		{"literals cut", "\x16abc", 5, "", ErrFormat},
		{"a length that goes on to the end", "\x15abcd\x20\x00\x00\x00", 64, "abcd", ErrFormat},
		{"nothing", "", 5, "", ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page := make([]byte, tt.size)
			n, err := Decompress(page, []byte(tt.src))
			if err != tt.err || string(page[:n]) != tt.want {
				t.Errorf("%q, %v; expected %q, %v", page[:n], err, tt.want, tt.err)
			}
		})
	}
}
