package sysfs

import (
	"strings"
	"testing"
)

func TestParsePair(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want Pair
		err  string // part of the error, "" for none
	}{
		{"2012 patches", "1cba8c0 2000\n", Pair{0x1cba8c0, 0x2000}, ""},
		{"vmcoreinfo today, size is hex too", "0x0000000100c66000 1024\n", Pair{0x100c66000, 0x1024}, ""},
		{"0x on both", "0x1000 0x1000", Pair{0x1000, 0x1000}, ""},
		{"0x on the size only", "1000 0x20", Pair{0x1000, 0x20}, ""},
		{"capitals", "0XABC DEF", Pair{0xabc, 0xdef}, ""},
		{"tabs, blanks, CR LF around", "\t 1000\t \t20 \r\n", Pair{0x1000, 0x20}, ""},
		{"odd address, one byte", "7 1", Pair{7, 1}, ""},
		{"largest size", "0 100000", Pair{0, maxSize}, ""},
		{"ends at 2^52", "ffffffffff000 1000", Pair{maxEnd - 0x1000, 0x1000}, ""},

		{"empty", "", Pair{}, "expected an address and a size"},
		{"address alone", "1cba8c0\n", Pair{}, "expected an address and a size"},
		{"three words", "1 2 3", Pair{}, "expected an address and a size"},
		{"two lines", "1000\n2000", Pair{}, "on one line"},
		{"second line", "1000 20\n1000 20\n", Pair{}, "on one line"},
		{"kept short in the error", strings.Repeat("z", 1000), Pair{}, `zzzz": expected`},
		{"address no hex", "10g0 20", Pair{}, `address "10g0": expected a hexadecimal number`},
		{"size no hex", "1000 2k", Pair{}, `size "2k": expected a hexadecimal number`},
		{"0x alone", "0x 20", Pair{}, `address "0x"`},
		{"0x twice", "0x0x10 20", Pair{}, `address "0x0x10"`},
		{"sign", "1000 +20", Pair{}, `size "+20"`},
		{"underscore", "10_00 20", Pair{}, `address "10_00"`},
		{"NUL", "1000 20\x00", Pair{}, `size "20\x00"`},
		{"65 bits", "10000000000000000 20", Pair{}, "at most 64 bits"},
		{"size 0", "1000 0", Pair{}, "size 0x0, expected 0x1 to 0x100000"},
		{"size above 1 MiB", "1000 100001", Pair{}, "size 0x100001"},
		{"ends above 2^52", "ffffffffff001 1000", Pair{}, "expected an end at or below 0x10000000000000"},
		{"overflows", "ffffffffffffffff 2", Pair{}, "expected an end at or below"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePair(tt.in)
			if got != tt.want {
				t.Errorf("ParsePair(%q) = %v, want %v", tt.in, got, tt.want)
			}
			checkError(t, err, tt.err)
		})
	}
}

func TestPairString(t *testing.T) {
	if got, want := (Pair{0x1cba8c0, 0x2000}).String(), "1cba8c0 2000"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParsePair(f *testing.F) {
	for _, s := range []string{"1cba8c0 2000\n", "0x0000000100c66000 1024", "0 0", "1\n2", "ffffffffffffffff 2", "0x 1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePair(s)
		if err != nil {
			if p != (Pair{}) {
				t.Fatalf("ParsePair(%q): error %v with pair %v", s, err, p)
			}
			return
		}
		if err := p.validate(); err != nil {
			t.Fatalf("ParsePair(%q): %v", s, err)
		}
		if again, err := ParsePair(p.String()); again != p || err != nil {
			t.Fatalf("ParsePair(%q) = %v, %v, want %v", p.String(), again, err, p)
		}
	})
}

// checkError fails the test unless err contains want, or is nil where want is
// "".
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got error %v, want one with %q", err, want)
	}
}
