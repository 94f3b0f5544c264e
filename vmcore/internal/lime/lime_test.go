package lime_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"vmcsnote/vmcore/internal/lime"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestCut: of an image that is cut off what is there can be read.
func TestCut(t *testing.T) {
	ranges := []testdumps.Range{{Addr: 0x1000, Bytes: testdumps.Memory(0x30000, 1)}, {Addr: 0x100000, Bytes: testdumps.Memory(0x30000, 2)}}
	for name, b := range map[string][]byte{"lime": testdumps.LiME(ranges...), "avml": testdumps.AVML(t, ranges...)} {
		for _, cut := range []int{20, 40, 100, 0x10000, 0x12345, len(b) - 1, len(b) - 0x8000} {
			cut = min(cut, len(b)-1)
			c, err := lime.Open(bytes.NewReader(b[:cut]), int64(cut))
			if err != nil {
				t.Errorf("%s cut to %d: %v", name, cut, err)
				continue
			}
			if c.End <= int64(cut) {
				t.Errorf("%s cut to %d is not truncated", name, cut)
			}
			got := make([]byte, 0x30000)
			n, err := c.ReadPhys(got, 0x1000)
			if !bytes.Equal(got[:n], ranges[0].Bytes[:n]) || n < len(got) && err == nil {
				t.Errorf("%s cut to %d: %d bytes, %v, or other bytes", name, cut, n, err)
			}
		}
	}
}

// TestHostile: headers that claim too much are errors, and no page that is
// damaged is taken for a whole one.
func TestHostile(t *testing.T) {
	page := testdumps.Range{Addr: 0x1000, Bytes: testdumps.Memory(0x1000, 1)}
	edit := func(b []byte, at int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], v)
		return b
	}
	a := testdumps.AVML(t, page)
	for _, tt := range []struct {
		name, want string
		b          []byte
	}{
		{"ends before it begins", "s_addr and e_addr", edit(testdumps.LiME(page), 16, 0, 0)},
		{"all addresses", "s_addr and e_addr", edit(testdumps.LiME(page), 8, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)},
		{"another version after the first", "magic and version", append(testdumps.LiME(page), edit(testdumps.LiME(page), 4, 3)...)},
		{"overlapping compressed ranges", "do not overlap", append(slices.Clone(a), a...)},
		{"a chunk of no known type", "type 0x2", edit(a, 32+10, 2)},
		{"a chunk of too much memory", "bytes of memory", edit(a, 32+10, 0 /* compressed */, 0x10, 0, 0, 1, 2, 3, 4, 0xff, 0xff, 0x7f)},
	} {
		if _, err := lime.Open(bytes.NewReader(tt.b), int64(len(tt.b))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
	bad := edit(a, len(a)-100, a[len(a)-100]^1)
	c, err := lime.Open(bytes.NewReader(bad), int64(len(bad)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.ReadPhys(make([]byte, 0x1000), 0x1000); n != 0 || err == nil {
		t.Errorf("a flipped bit: %d bytes, %v", n, err)
	}
}
