package vmcore

import (
	"fmt"
	"math"
)

// pageSize is the least by which data shifts within a file, so that what was
// page-aligned in it stays so: crash tells kdump from netdump cores by that,
// and file systems share or punch only whole blocks.
const pageSize = 4096

// maxGranule bounds the pages of a machine that is believed to have larger ones
// than that. The largest that Linux has anywhere is 256 KiB (Hexagon: 1 MiB).
const maxGranule = 2 << 20

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// noOffset is the p_offset of a PT_LOAD without a place in the file in dumps
// that QEMU has filtered; makedumpfile writes 0 there.
const noOffset = math.MaxUint64

// endless is the size of a stream, whose end is not known until it comes.
const endless = math.MaxInt64

// An extent is a range of bytes in a file, as a header gives it: nothing says
// that it lies in the file, or even that its end can be computed.
type extent struct {
	off, size uint64
}

// end returns the offset behind the last byte, and false where that is beyond
// what a file can have.
func (e extent) end() (uint64, bool) {
	end := e.off + e.size
	return end, end >= e.off && end <= math.MaxInt64
}

// within reports whether the extent lies in a file of size bytes.
func (e extent) within(size int64) bool {
	end, ok := e.end()
	return ok && end <= uint64(size)
}

// clip returns how many of the extent's bytes a file of size bytes holds.
func (e extent) clip(size int64) uint64 {
	if e.off >= uint64(size) {
		return 0
	}
	return min(e.size, uint64(size)-e.off)
}

// overlaps reports whether two extents share a byte.
func (e extent) overlaps(f extent) bool {
	if e.off > f.off {
		e, f = f, e
	}
	return f.size > 0 && f.off-e.off < e.size
}

func (e extent) String() string {
	return fmt.Sprintf("%#x bytes at %#x", e.size, e.off)
}

// roundUp rounds n up to a multiple of align, a power of two.
func roundUp(n, align int64) int64 {
	return (n + align - 1) &^ (align - 1)
}
