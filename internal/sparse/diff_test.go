package sparse

import (
	"bytes"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	const far = 1 << 40
	zeros := strings.Repeat("\x00", blockSize)
	type file struct {
		size   int64
		writes []write
	}
	tests := []struct {
		name      string
		got, want file
		diff      string // "" for none
	}{
		{name: "both empty"},
		{name: "both holes", got: file{far, nil}, want: file{far, nil}},
		{
			name: "equal",
			got:  file{far, []write{{0, "head"}, {far - 4, "tail"}}},
			want: file{far, []write{{0, "head"}, {far - 4, "tail"}}},
		},
		{
			name: "a hole and zeros beside data",
			got:  file{2 * blockSize, []write{{0, "head"}}},
			want: file{2 * blockSize, []write{{0, "head"}, {blockSize, zeros}}},
		},
		{
			name: "data against a hole",
			got:  file{far, []write{{far - 3, "abc"}}},
			want: file{far, nil},
			diff: "offset 0xfffffffffd: got 61 62 63, want 00 00 00",
		},
		{
			name: "data against other data",
			got:  file{32, []write{{0, "headline"}}},
			want: file{32, []write{{0, "headband"}}},
			diff: "offset 0x4: got 6c 69 6e 65 00 00 00 00 00 00 00 00 00 00 00 00, want 62 61 6e 64 00 00 00 00 00 00 00 00 00 00 00 00",
		},
		{
			name: "first of several",
			got:  file{far, []write{{blockSize, "x"}, {far - 1, "x"}}},
			want: file{far, []write{{blockSize, "y"}, {far - 1, "y"}}},
			diff: "offset 0x1000: got 78 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00, want 79 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
		},
		{
			name: "longer by a hole",
			got:  file{6, []write{{0, "abcd"}}},
			want: file{4, []write{{0, "abcd"}}},
			diff: "offset 0x4: got 00 00, want the end of the file; size: got 6, want 4",
		},
		{
			name: "shorter, and different before",
			got:  file{2, []write{{0, "ax"}}},
			want: file{4, []write{{0, "abcd"}}},
			diff: "offset 0x1: got 78, want 62 63 64; size: got 2, want 4",
		},
		{
			name: "in the middle of much data",
			got:  file{size: 3*scanBuffer + 5, writes: []write{{0, strings.Repeat("d", 3*scanBuffer+5)}, {scanBuffer, "x"}}},
			want: file{size: 3*scanBuffer + 5, writes: []write{{0, strings.Repeat("d", 3*scanBuffer+5)}}},
			diff: "offset 0x100000: got 78 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64, want 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := sparseFile(t, test.got.size, test.got.writes...)
			got := mustScan(t, f)
			want := mustScan(t, sparseFile(t, test.want.size, test.want.writes...))
			diff := ""
			if d := Diff(got, want); d != nil {
				diff = d.String()
			}
			if diff != test.diff {
				t.Errorf("got  %s\nwant %s", diff, test.diff)
			}
			diff = ""
			if d, err := DiffFile(f, want); err != nil {
				t.Error(err)
			} else if d != nil {
				diff = d.String()
			}
			if diff != test.diff {
				t.Errorf("DiffFile: got  %s\nwant %s", diff, test.diff)
			}
			if (Diff(want, got) == nil) != (test.diff == "") {
				t.Error("the other way round it says otherwise")
			}
		})
	}
}

// FuzzDiff holds Diff against bytes.Equal, on files whose blocks are the bytes
// of a and b, each repeated.
func FuzzDiff(f *testing.F) {
	f.Add([]byte("a\x00b"), []byte("a\x00b\x00"))
	f.Add([]byte("\x00\x00x"), []byte("y\x00x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 64 || len(b) > 64 {
			t.Skip()
		}
		a, b = widen(a), widen(b)
		imA, err := New(a)
		if err != nil {
			t.Fatal(err)
		}
		imB, err := New(b)
		if err != nil {
			t.Fatal(err)
		}
		d := Diff(imA, imB)
		if (d == nil) != bytes.Equal(a, b) {
			t.Fatalf("Diff says %v", d)
		}
		if d != nil && (!bytes.Equal(a[:d.Offset], b[:d.Offset]) || bytes.HasPrefix(a[d.Offset:], d.Want) && bytes.HasPrefix(b[d.Offset:], d.Got) && len(a) == len(b)) {
			t.Errorf("not the first difference: %v", d)
		}
	})
}

// widen makes a block of every byte, the last one short.
func widen(b []byte) []byte {
	var wide []byte
	for _, c := range b {
		wide = append(wide, bytes.Repeat([]byte{c}, blockSize)...)
	}
	return wide[:max(0, len(wide)-blockSize+1)]
}
