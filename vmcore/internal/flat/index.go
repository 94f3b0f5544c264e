package flat

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

const (
	// MaxRuns bounds the index of a flattened dump. A compressed dump of
	// makedumpfile has two records for each 64 KiB: this is enough for 64 GiB
	// of them. An ELF core has a handful of runs, whatever its size.
	MaxRuns = 1 << 21
	// maxChunk is the largest record in a run; a larger record counts as
	// several.
	maxChunk = 1 << 30
	// MaxHoles bounds the bytes of the plain form that no record holds, beyond
	// the file's own size: reading zeros takes time, too. Writers leave out the
	// rest of a block here and there; a dump that could not be finished lacks
	// its unused page descriptors: 24 bytes for each page.
	MaxHoles int64 = 4 << 30
)

// A Run is n records of size bytes each, one after the other both in the
// plain form and in the file, where their headers stand between them.
type Run struct {
	Off     int64 // of the first in the plain form
	pos     int64 // of the first's bytes in the file
	Size, N uint32
}

// End returns the offset in the plain form after the last record.
func (r Run) End() int64 { return r.Off + int64(r.Size)*int64(r.N) }

// next returns where the bytes of another record of the run would lie.
func (r Run) next() int64 { return r.pos + (int64(r.Size)+RecordHeader)*int64(r.N) }

// find returns where in the file the byte at off of the plain form lies, and
// how many follow it in its record. off must be within the run.
func (r Run) find(off int64) (pos, n int64) {
	size := int64(r.Size)
	i, in := (off-r.Off)/size, (off-r.Off)%size
	return r.pos + i*(size+RecordHeader) + in, size - in
}

// cut appends to runs the part of r from off to end: a record's end, whole
// records, and a record's beginning at most.
func (r Run) cut(runs []Run, off, end int64) []Run {
	for off < end {
		pos, n := r.find(off)
		n = min(n, end-off)
		part := Run{off, pos, uint32(n), 1}
		if n == int64(r.Size) {
			part.N = uint32((end - off) / n)
		}
		runs = append(runs, part)
		off = part.End()
	}
	return runs
}

// AppendRecord appends a record of size bytes at pos of the file to runs, which
// are in the order of the file.
func AppendRecord(runs []Run, off, pos, size int64) []Run {
	for size > 0 {
		n := min(size, maxChunk)
		last := len(runs) - 1
		if last >= 0 && int64(runs[last].Size) == n && runs[last].End() == off && runs[last].next() == pos && runs[last].N < math.MaxUint32 {
			runs[last].N++
		} else {
			runs = append(runs, Run{off, pos, uint32(n), 1})
		}
		off, pos, size = off+n, pos+n, size-n
	}
	return runs
}

// Resolve sorts runs, which are in the order of the file, by their place in the
// plain form. Where they overlap, the later one wins, as it overwrites the
// earlier one when makedumpfile -R writes both; the other is cut. shared is
// what more than one record holds.
func Resolve(runs []Run) (held []Run, shared []plan.Extent, err error) {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Off, b.Off) })
	if shared = overlaps(runs); len(shared) == 0 {
		return runs, nil, nil
	}
	var begun latestFirst // runs that begin at or before at
	for at := int64(0); len(runs) > 0 || len(begun) > 0; {
		if len(begun) == 0 {
			at = runs[0].Off
		}
		for len(runs) > 0 && runs[0].Off <= at {
			heap.Push(&begun, runs[0])
			runs = runs[1:]
		}
		wins := begun[0]
		end := wins.End()
		for len(runs) > 0 && runs[0].Off < end {
			if runs[0].pos > wins.pos {
				end = runs[0].Off
				break
			}
			heap.Push(&begun, runs[0])
			runs = runs[1:]
		}
		held = wins.cut(held, at, end)
		if len(held) > MaxRuns {
			return nil, nil, ErrTooManyRecords
		}
		at = end
		for len(begun) > 0 && begun[0].End() <= at {
			heap.Pop(&begun)
		}
	}
	return held, shared, nil
}

// ErrTooManyRecords: the index would take too much memory.
var ErrTooManyRecords = errors.Errorf("more than %d records that do not follow one another", MaxRuns)

// overlaps returns what more than one of the runs, sorted by offset, holds.
func overlaps(runs []Run) []plan.Extent {
	var shared []plan.Extent
	reach := int64(0)
	for _, r := range runs {
		if r.Off < reach {
			shared = AppendExtent(shared, r.Off, min(r.End(), reach))
		}
		reach = max(reach, r.End())
	}
	return shared
}

// AppendExtent appends the bytes from off to end to extents sorted by offset.
func AppendExtent(es []plan.Extent, off, end int64) []plan.Extent {
	if last := len(es) - 1; last >= 0 && uint64(off) <= es[last].Off+es[last].Size {
		es[last].Size = max(es[last].Size, uint64(end)-es[last].Off)
		return es
	}
	return append(es, plan.Extent{Off: uint64(off), Size: uint64(end - off)})
}

// latestFirst is a heap of runs with the latest in the file on top.
type latestFirst []Run

func (h latestFirst) Len() int           { return len(h) }
func (h latestFirst) Less(i, j int) bool { return h[i].pos > h[j].pos }
func (h latestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *latestFirst) Push(x any)        { *h = append(*h, x.(Run)) }

func (h *latestFirst) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// FindRun returns where in the file the byte at off of the plain form lies, and
// how many follow it in its record; or false, and how many bytes follow that
// none of the runs, sorted and disjoint, holds.
func FindRun(runs []Run, off int64) (pos, n int64, held bool) {
	i := sort.Search(len(runs), func(i int) bool { return runs[i].End() > off })
	switch {
	case i == len(runs):
		return 0, math.MaxInt64 - off, false
	case runs[i].Off > off:
		return 0, runs[i].Off - off, false
	}
	pos, n = runs[i].find(off)
	return pos, n, true
}
