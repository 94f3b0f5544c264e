package vmcore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestImages: each form of an image holds the same memory.
func TestImages(t *testing.T) {
	ranges := []testdumps.Range{
		{Addr: 0x1000, Bytes: testdumps.Memory(0x9000, 1)},
		{Addr: 0x100000, Bytes: testdumps.Memory(0x45000, 2)},
		{Addr: 0x145000, Bytes: testdumps.Memory(0x1000, 3)},
		{Addr: 0x100000000, Bytes: testdumps.Memory(0x2000, 4)},
	}
	want := []physmem.Range{{Addr: 0x1000, Size: 0x9000}, {Addr: 0x100000, Size: 0x46000}, {Addr: 0x100000000, Size: 0x2000}}
	mixed := slices.Concat(testdumps.LiME(ranges[0]), testdumps.AVML(t, ranges[1]), testdumps.LiME(ranges[2]), testdumps.AVML(t, ranges[3]))
	for _, tt := range []struct {
		name, format string
		b            []byte
	}{
		{"LiME", "lime", testdumps.LiME(ranges...)},
		{"AVML", "avml", testdumps.AVML(t, ranges...)},
		{"ranges of both", "avml", mixed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name != "ranges of both" {
				if _, err := Open(bytes.NewReader(tt.b), int64(len(tt.b))); !errors.Is(err, ErrNotCore) || !strings.Contains(err.Error(), tt.name+" image") {
					t.Errorf("Open: got %v, want ErrNotCore that names it", err)
				}
			}
			open := OpenMemory
			if tt.name == "ranges of both" {
				open = openLiME
			}
			c, err := open(bytes.NewReader(tt.b), int64(len(tt.b)))
			if err != nil {
				t.Fatal(err)
			}
			if c.Format() != tt.format || truncated(c) {
				t.Errorf("format %s, truncated %t", c.Format(), truncated(c))
			}
			if got := slices.Collect(c.Ranges()); !slices.Equal(got, want) {
				t.Errorf("memory %x, want %x", got, want)
			}
			for _, r := range ranges {
				for _, at := range []int{0, 1, 4095, 65535, 65536, 65537} {
					if at >= len(r.Bytes) {
						continue
					}
					b := make([]byte, min(len(r.Bytes)-at, 70000))
					if n, err := c.ReadPhys(b, r.Addr+uint64(at)); n != len(b) || err != nil || !bytes.Equal(b, r.Bytes[at:at+n]) {
						t.Errorf("read %d bytes at %#x: %v, or other bytes", n, r.Addr+uint64(at), err)
					}
				}
			}
			b := make([]byte, 16)
			if n, err := c.ReadPhys(b, 0x9ff8); n != 8 && !errors.Is(err, ErrNoMemory) {
				t.Errorf("past a range: %d, %v", n, err)
			}
			if _, err := c.PlanCopy(elfnote.Splice{}); !errors.Is(err, errNoNotes) {
				t.Errorf("PlanCopy: %v", err)
			}
		})
	}
}

// TestRaw: raw memory begins at address 0.
func TestRaw(t *testing.T) {
	b := testdumps.Memory(0x3000, 1)
	c, err := OpenRaw(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0x2000)
	if n, err := c.ReadPhys(got, 0x1000); n != len(got) || err != nil || !bytes.Equal(got, b[0x1000:]) {
		t.Errorf("%d bytes, %v, or other bytes", n, err)
	}
	if _, err := c.ReadPhys(got, 0x3000); !errors.Is(err, ErrNoMemory) {
		t.Errorf("past the end: %v", err)
	}
}
