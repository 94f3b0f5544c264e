package vmcore

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
	// maxRuns bounds the index of a flattened dump. A compressed dump of makedumpfile has
	// two records for each 64 KiB: this is enough for 64 GiB of them. An ELF
	// core has a handful of runs, whatever its size.
	maxRuns = 1 << 21
	// maxChunk is what a run's record has at most; larger ones count as several.
	maxChunk = 1 << 30
	// maxHoles bounds what the plain form may have in bytes that no record
	// holds, beyond the file's own size: reading zeros takes time, too. Writers
	// leave out the rest of a block here and there; a dump that could not be
	// finished, its unused page descriptors: 24 bytes for each page.
	maxHoles int64 = 4 << 30
)

// A run is n records of size bytes each, one behind the other both in the
// plain form and in the file, where their headers stand between them.
type run struct {
	off     int64 // of the first in the plain form
	pos     int64 // of the first's bytes in the file
	size, n uint32
}

// end returns the offset in the plain form behind the last record.
func (r run) end() int64 { return r.off + int64(r.size)*int64(r.n) }

// next returns where the bytes of another record of the run would lie.
func (r run) next() int64 { return r.pos + (int64(r.size)+flatRecordHeader)*int64(r.n) }

// find returns where in the file the byte at off of the plain form lies, and
// how many follow it in its record. off must be within the run.
func (r run) find(off int64) (pos, n int64) {
	size := int64(r.size)
	i, in := (off-r.off)/size, (off-r.off)%size
	return r.pos + i*(size+flatRecordHeader) + in, size - in
}

// cut appends to runs the part of r from off to end: a record's end, whole
// records, and a record's beginning at most.
func (r run) cut(runs []run, off, end int64) []run {
	for off < end {
		pos, n := r.find(off)
		n = min(n, end-off)
		part := run{off, pos, uint32(n), 1}
		if n == int64(r.size) {
			part.n = uint32((end - off) / n)
		}
		runs = append(runs, part)
		off = part.end()
	}
	return runs
}

// appendRecord appends a record of size bytes at pos of the file to runs, which are in the
// order of the file.
func appendRecord(runs []run, off, pos, size int64) []run {
	for size > 0 {
		n := min(size, maxChunk)
		last := len(runs) - 1
		if last >= 0 && int64(runs[last].size) == n && runs[last].end() == off && runs[last].next() == pos && runs[last].n < math.MaxUint32 {
			runs[last].n++
		} else {
			runs = append(runs, run{off, pos, uint32(n), 1})
		}
		off, pos, size = off+n, pos+n, size-n
	}
	return runs
}

// resolve sorts runs, which are in the order of the file, by their place in
// the plain form. Where they overlap, the later one wins, as it overwrites the
// earlier one when makedumpfile -R writes both; the other is cut. shared is
// what more than one record holds.
func resolve(runs []run) (held []run, shared []plan.Extent, err error) {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.off, b.off) })
	if shared = overlaps(runs); len(shared) == 0 {
		return runs, nil, nil
	}
	var begun latestFirst // runs that begin at or before at
	for at := int64(0); len(runs) > 0 || len(begun) > 0; {
		if len(begun) == 0 {
			at = runs[0].off
		}
		for len(runs) > 0 && runs[0].off <= at {
			heap.Push(&begun, runs[0])
			runs = runs[1:]
		}
		wins := begun[0]
		end := wins.end()
		for len(runs) > 0 && runs[0].off < end {
			if runs[0].pos > wins.pos {
				end = runs[0].off
				break
			}
			heap.Push(&begun, runs[0])
			runs = runs[1:]
		}
		held = wins.cut(held, at, end)
		if len(held) > maxRuns {
			return nil, nil, errTooManyRuns
		}
		at = end
		for len(begun) > 0 && begun[0].end() <= at {
			heap.Pop(&begun)
		}
	}
	return held, shared, nil
}

var errTooManyRuns = errors.Errorf("more than %d records that do not follow one another: put it together with makedumpfile -R first", maxRuns)

// overlaps returns what more than one of the runs, sorted by offset, holds.
func overlaps(runs []run) []plan.Extent {
	var shared []plan.Extent
	reach := int64(0)
	for _, r := range runs {
		if r.off < reach {
			shared = appendExtent(shared, r.off, min(r.end(), reach))
		}
		reach = max(reach, r.end())
	}
	return shared
}

// appendExtent appends the bytes from off to end to extents sorted by offset.
func appendExtent(es []plan.Extent, off, end int64) []plan.Extent {
	if last := len(es) - 1; last >= 0 && uint64(off) <= es[last].Off+es[last].Size {
		es[last].Size = max(es[last].Size, uint64(end)-es[last].Off)
		return es
	}
	return append(es, plan.Extent{Off: uint64(off), Size: uint64(end - off)})
}

// latestFirst is a heap of runs with the latest in the file on top.
type latestFirst []run

func (h latestFirst) Len() int           { return len(h) }
func (h latestFirst) Less(i, j int) bool { return h[i].pos > h[j].pos }
func (h latestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *latestFirst) Push(x any)        { *h = append(*h, x.(run)) }

func (h *latestFirst) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// findRun returns where in the file the byte at off of the plain form lies, and
// how many follow it in its record; or false, and how many bytes follow that
// none of the runs, sorted and disjoint, holds.
func findRun(runs []run, off int64) (pos, n int64, held bool) {
	i := sort.Search(len(runs), func(i int) bool { return runs[i].end() > off })
	switch {
	case i == len(runs):
		return 0, math.MaxInt64 - off, false
	case runs[i].off > off:
		return 0, runs[i].off - off, false
	}
	pos, n = runs[i].find(off)
	return pos, n, true
}
