package plan

import (
	"fmt"
	"math"
)

// PageSize is the least by which data shifts within a file, so that what was
// page-aligned in it stays so: by that crash distinguishes kdump from netdump
// cores, and file systems share or punch only whole blocks.
const PageSize = 4096

// SectorSize is what a disk writes whole or not at all.
const SectorSize = 512

// Endless is the size of a stream, whose end is not known until it comes.
const Endless = math.MaxInt64

// An Extent is a range of bytes in a file, as a header gives it. It may lie
// outside the file, and its end may overflow.
type Extent struct {
	Off, Size uint64
}

// End returns the offset after the last byte, and false where that is beyond
// what a file can have.
func (e Extent) End() (uint64, bool) {
	end := e.Off + e.Size
	return end, end >= e.Off && end <= math.MaxInt64
}

// Within reports whether the extent lies in a file of size bytes.
func (e Extent) Within(size int64) bool {
	end, ok := e.End()
	return ok && end <= uint64(size)
}

// Clip returns how many of the extent's bytes a file of size bytes holds.
func (e Extent) Clip(size int64) uint64 {
	if e.Off >= uint64(size) {
		return 0
	}
	return min(e.Size, uint64(size)-e.Off)
}

// Overlaps reports whether two extents share a byte.
func (e Extent) Overlaps(f Extent) bool {
	if e.Off > f.Off {
		e, f = f, e
	}
	return f.Size > 0 && f.Off-e.Off < e.Size
}

// String returns the size in bytes and the offset.
//
//go:noinline
func (e Extent) String() string {
	return fmt.Sprintf("%#x bytes at %#x", e.Size, e.Off)
}

// RoundUp rounds n up to a multiple of align, a power of two.
func RoundUp(n, align int64) int64 {
	return (n + align - 1) &^ (align - 1)
}
