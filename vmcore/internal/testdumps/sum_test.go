package testdumps

import (
	"bytes"
	"hash/crc32"
	"slices"
	"testing"

	"vmcsnote/internal/sparse"
	"vmcsnote/vmcore/internal/faults"
)

// TestChecksum: what is read around holes has the checksum of all bytes.
func TestChecksum(t *testing.T) {
	const block = 4096
	b := make([]byte, 10*block+100)
	for _, at := range []int{1, 3 * block, 4*block - 1, 7 * block, len(b) - 1} {
		b[at] = byte(at) | 1
	}
	im, err := sparse.New(b)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("text"), 3000)
	long := slices.Concat(b, make([]byte, 50000))
	edited := bytes.Clone(long)
	copy(edited[5*block-7:], text)
	version := &faults.Version{Base: im, Size: im.Size(), Edits: []faults.Edit{
		{Size: int64(len(long))},
		{Off: 5*block - 7, Data: text, Size: -1},
	}}
	for _, n := range []int{0, 1, 4095, 4096, 4097, 5 * block, len(b) - 3} {
		for _, off := range []int{0, 1, 3} {
			got, err := checksum(1234, im, int64(off), int64(n), make([]byte, 1000))
			if want := crc32.Update(1234, castagnoli, b[off:off+n]); err != nil || got != want {
				t.Errorf("%d bytes at %d: %#x, %v, want %#x", n, off, got, err, want)
			}
			got, err = checksum(1234, version, int64(off), int64(n)+50000, make([]byte, 1000))
			if want := crc32.Update(1234, castagnoli, edited[off:off+n+50000]); err != nil || got != want {
				t.Errorf("edited, %d bytes at %d: %#x, %v, want %#x", n, off, got, err, want)
			}
		}
	}
	if _, err := checksum(0, im, 0, im.Size()+1, make([]byte, 1000)); err == nil {
		t.Error("a byte after the end has a checksum")
	}
}
