package sparse

import (
	"bytes"
	"fmt"
)

// shown is how many bytes a Difference shows of either side.
const shown = 16

var zeroBlock [blockSize]byte

// Difference is the first place where two images are not the same.
type Difference struct {
	Offset            int64  // of the first byte that differs, or that only one of the two has
	Got, Want         []byte // up to 16 bytes from Offset on; empty where that file has ended
	GotSize, WantSize int64  // the files' sizes
}

// String returns the difference in one line.
func (d *Difference) String() string {
	s := fmt.Sprintf("offset %#x: got %s, want %s", d.Offset, show(d.Got), show(d.Want))
	if d.GotSize != d.WantSize {
		s += fmt.Sprintf("; size: got %d, want %d", d.GotSize, d.WantSize)
	}
	return s
}

func show(b []byte) string {
	if len(b) == 0 {
		return "the end of the file"
	}
	return fmt.Sprintf("% x", b)
}

// Diff compares two images whole, without a look at what is a hole in both. It
// returns nil where they are the same file, whichever way each is split into
// extents.
func Diff(got, want *Image) *Difference {
	end := min(got.size, want.size)
	off := differ(got, want, 0, end)
	if off == end && got.size == want.size {
		return nil
	}
	return &Difference{off, got.peek(off), want.peek(off), got.size, want.size}
}

// differ returns the first offset from off on at which two images differ, or
// end.
func differ(got, want *Image, off, end int64) int64 {
	for off < end {
		a, runA := got.run(off)
		b, runB := want.run(off)
		n := min(runA, runB, end-off)
		if a != nil || b != nil {
			n = min(n, blockSize)
			if i := mismatch(orZero(a)[:n], orZero(b)[:n]); i >= 0 {
				return off + int64(i)
			}
		}
		off += n
	}
	return off
}

// peek returns the first bytes from off on.
func (im *Image) peek(off int64) []byte {
	b := make([]byte, min(shown, max(0, im.size-off)))
	n, _ := im.ReadAt(b, off) // never past the end
	return b[:n]
}

// mismatch returns the index of the first byte in which a and b, which are of
// one length, differ; -1 if in none.
func mismatch(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func orZero(b []byte) []byte {
	if b == nil {
		return zeroBlock[:]
	}
	return b
}
