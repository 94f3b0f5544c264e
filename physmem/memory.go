package physmem

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"
)

// A Reader reads physical memory: that of the running machine, of a dump, or of
// a guest. It is safe for concurrent use.
type Reader interface {
	// ReadPhys fills p with the memory at the physical address addr, in bytes.
	// It returns the number of bytes read, which is less than len(p) only with
	// an error about the first byte not read; the bytes before it are good. It
	// never makes up zeros.
	ReadPhys(p []byte, addr uint64) (n int, err error)
}

// A Memory is a Reader that knows which memory there is.
type Memory interface {
	Reader
	// Ranges yields the memory there is, sorted by address; the ranges neither
	// overlap nor touch, and have at least a byte. There may be millions: a
	// caller that keeps them must bound what it keeps.
	Ranges() iter.Seq[Range]
}

// A Range is a range of physical memory.
type Range struct {
	Addr, Size uint64 // bytes
}

// Between returns the range from start up to end; it is empty if end is not
// above start.
func Between(start, end uint64) Range { return Range{start, max(start, end) - start} }

// End returns the address after the last byte, at most 2^64-1.
func (r Range) End() uint64 { return r.Addr + min(r.Size, math.MaxUint64-r.Addr) }

// Contains reports whether the byte at addr is in the range.
func (r Range) Contains(addr uint64) bool { return addr >= r.Addr && addr-r.Addr < r.Size }

// Intersect returns what both ranges have; its size is 0 if that is nothing.
func (r Range) Intersect(s Range) Range {
	return Between(max(r.Addr, s.Addr), min(r.End(), s.End()))
}

// Pages returns the part of the range that is whole pages of a size, which is a
// power of two.
func (r Range) Pages(size uint64) Range {
	start := r.Addr + (-r.Addr)&(size-1)
	if start < r.Addr {
		return Range{}
	}
	return Between(start, r.End()&^(size-1))
}

// Compare orders ranges by address.
func (r Range) Compare(s Range) int { return cmp.Compare(r.Addr, s.Addr) }

// Union sorts ranges and joins those that overlap or touch, in place. It cuts a
// range where addresses end.
func Union(rs []Range) []Range {
	sort.Slice(rs, func(i, j int) bool { return rs[i].Compare(rs[j]) < 0 })
	return slices.AppendSeq(rs[:0], Joined(slices.Values(rs)))
}

// Joined joins ranges, which are sorted by address, where they overlap or
// touch.
func Joined(rs iter.Seq[Range]) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		var run Range
		for r := range rs {
			switch r = Between(r.Addr, r.End()); {
			case r.Size == 0:
			case run.Size > 0 && r.Addr <= run.End():
				run = Between(run.Addr, max(run.End(), r.End()))
			default:
				if run.Size > 0 && !yield(run) {
					return
				}
				run = r
			}
		}
		if run.Size > 0 {
			yield(run)
		}
	}
}

// AllZero reports whether every byte of b is zero.
func AllZero(b []byte) bool {
	le := binary.LittleEndian
	for ; len(b) >= 32; b = b[32:] {
		if le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:]) != 0 {
			return false
		}
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// With returns the memory that r reads, of which there is what ranges yields.
func With(r Reader, ranges iter.Seq[Range]) Memory { return with{r, ranges} }

type with struct {
	Reader
	ranges iter.Seq[Range]
}

// Ranges implements [Memory].
func (w with) Ranges() iter.Seq[Range] { return w.ranges }
