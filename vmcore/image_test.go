package vmcore

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/lime"
)

// lime writes ranges of memory as LiME does.
func limeImage(ranges ...testRange) []byte {
	var b []byte
	for _, r := range ranges {
		b = append(imageHeader(b, lime.Magic, 1, r), r.b...)
	}
	return b
}

// avml writes ranges of memory as AVML does.
func avml(t *testing.T, ranges ...testRange) []byte {
	var b []byte
	for _, r := range ranges {
		var packed bytes.Buffer
		w := snappy.NewBufferedWriter(&packed)
		if _, err := w.Write(r.b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = append(imageHeader(b, lime.AVMLMagic, 2, r), packed.Bytes()...)
		b = binary.LittleEndian.AppendUint64(b, uint64(packed.Len()))
	}
	return b
}

type testRange struct {
	addr uint64
	b    []byte
}

func imageHeader(b []byte, magic string, version uint32, r testRange) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, magic...), version)
	b = binary.LittleEndian.AppendUint64(b, r.addr)
	b = binary.LittleEndian.AppendUint64(b, r.addr+uint64(len(r.b))-1)
	return binary.LittleEndian.AppendUint64(b, 0)
}

// someMemory is memory that compresses in part.
func someMemory(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		if i/4096%3 == 0 {
			b[i] = byte(r.Uint32())
		} else {
			b[i] = byte(i / 4096)
		}
	}
	return b
}

// TestImages: each form of an image holds the same memory.
func TestImages(t *testing.T) {
	ranges := []testRange{
		{0x1000, someMemory(0x9000, 1)},
		{0x100000, someMemory(0x45000, 2)},
		{0x145000, someMemory(0x1000, 3)},
		{0x100000000, someMemory(0x2000, 4)},
	}
	want := []physmem.Range{{Addr: 0x1000, Size: 0x9000}, {Addr: 0x100000, Size: 0x46000}, {Addr: 0x100000000, Size: 0x2000}}
	mixed := slices.Concat(limeImage(ranges[0]), avml(t, ranges[1]), limeImage(ranges[2]), avml(t, ranges[3]))
	for _, tt := range []struct {
		name, format string
		b            []byte
	}{
		{"LiME", "lime", limeImage(ranges...)},
		{"AVML", "avml", avml(t, ranges...)},
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
			if c.Format() != tt.format || Truncated(c) {
				t.Errorf("format %s, truncated %t", c.Format(), Truncated(c))
			}
			if got := slices.Collect(c.Ranges()); !slices.Equal(got, want) {
				t.Errorf("memory %x, want %x", got, want)
			}
			for _, r := range ranges {
				for _, at := range []int{0, 1, 4095, 65535, 65536, 65537} {
					if at >= len(r.b) {
						continue
					}
					b := make([]byte, min(len(r.b)-at, 70000))
					if n, err := c.ReadPhys(b, r.addr+uint64(at)); n != len(b) || err != nil || !bytes.Equal(b, r.b[at:at+n]) {
						t.Errorf("read %d bytes at %#x: %v, or other bytes", n, r.addr+uint64(at), err)
					}
				}
			}
			b := make([]byte, 16)
			if n, err := c.ReadPhys(b, 0x9ff8); n != 8 && !errors.Is(err, ErrNoMemory) {
				t.Errorf("past a range: %d, %v", n, err)
			}
			if _, err := c.PlanCopy(elfnote.Splice{}); !errors.Is(err, ErrNoNotes) {
				t.Errorf("PlanCopy: %v", err)
			}
		})
	}
}

// TestImagesCut: of an image that is cut off what is there can be read.
func TestImagesCut(t *testing.T) {
	ranges := []testRange{{0x1000, someMemory(0x30000, 1)}, {0x100000, someMemory(0x30000, 2)}}
	for name, b := range map[string][]byte{"lime": limeImage(ranges...), "avml": avml(t, ranges...)} {
		for _, cut := range []int{20, 40, 100, 0x10000, 0x12345, len(b) - 1, len(b) - 0x8000} {
			cut = min(cut, len(b)-1)
			c, err := OpenMemory(bytes.NewReader(b[:cut]), int64(cut))
			if err != nil {
				t.Errorf("%s cut to %d: %v", name, cut, err)
				continue
			}
			if !Truncated(c) {
				t.Errorf("%s cut to %d is not truncated", name, cut)
			}
			got := make([]byte, 0x30000)
			n, err := c.ReadPhys(got, 0x1000)
			if !bytes.Equal(got[:n], ranges[0].b[:n]) || n < len(got) && err == nil {
				t.Errorf("%s cut to %d: %d bytes, %v, or other bytes", name, cut, n, err)
			}
		}
	}
}

// TestImagesHostile: headers that claim too much are errors, and no page that is
// damaged is taken for a whole one.
func TestImagesHostile(t *testing.T) {
	page := testRange{0x1000, someMemory(0x1000, 1)}
	edit := func(b []byte, at int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], v)
		return b
	}
	a := avml(t, page)
	for _, tt := range []struct {
		name, want string
		b          []byte
	}{
		{"ends before it begins", "s_addr and e_addr", edit(limeImage(page), 16, 0, 0)},
		{"all addresses", "s_addr and e_addr", edit(limeImage(page), 8, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)},
		{"another version after the first", "magic and version", append(limeImage(page), edit(limeImage(page), 4, 3)...)},
		{"overlapping compressed ranges", "do not overlap", append(slices.Clone(a), a...)},
		{"a chunk of no known type", "type 0x2", edit(a, 32+10, 2)},
		{"a chunk of too much memory", "bytes of memory", edit(a, 32+10, 0 /* compressed */, 0x10, 0, 0, 1, 2, 3, 4, 0xff, 0xff, 0x7f)},
	} {
		if _, err := OpenMemory(bytes.NewReader(tt.b), int64(len(tt.b))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
	bad := edit(a, len(a)-100, a[len(a)-100]^1)
	c, err := OpenMemory(bytes.NewReader(bad), int64(len(bad)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.ReadPhys(make([]byte, 0x1000), 0x1000); n != 0 || err == nil {
		t.Errorf("a flipped bit: %d bytes, %v", n, err)
	}
}

// TestRaw: raw memory begins at address 0.
func TestRaw(t *testing.T) {
	b := someMemory(0x3000, 1)
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

func FuzzOpenMemory(f *testing.F) {
	f.Add(limeImage(testRange{0x1000, someMemory(0x1000, 1)}))
	var t testing.T
	f.Add(avml(&t, testRange{0x1000, someMemory(0x2000, 1)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := OpenMemory(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for r := range c.Ranges() {
			c.ReadPhys(make([]byte, 64), r.Addr)
			c.ReadPhys(make([]byte, 64), r.Addr+r.Size-1)
		}
	})
}
