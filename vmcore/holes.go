package vmcore

import (
	"context"
	"iter"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// Memory may be in more pieces than a core should have PT_LOADs: a guest's with
// a balloon in it, or out of a host's dump without the pages of zeros. crash
// looks for each address through all PT_LOADs, and more than 65,534 of them
// some readers do not take at all. So only the biggest holes part them; the
// others read as zeros, and are counted.
const (
	maxLoads   = 4096
	maxAliases = 16
	newProgs   = 1 + maxLoads + maxAliases
	// maxSegs bounds the pieces with room of their own in the file; where there
	// are more, it is sparse between them.
	maxSegs = maxLoads / 2
	// keptHoles bounds the holes kept meanwhile: 4 MB of them.
	keptHoles = 1 << 18
	// maxMemory is more than any address: sizes in the file do not overflow.
	maxMemory = 1 << 62
)

// plan goes through the ranges, and decides for which memory there is room in
// the file.
func (w *Writer) plan(ctx context.Context) error {
	next := uint64(0)
	for r := range w.mem.Ranges() {
		addr, size := r.Addr, r.Size
		if (addr|size)%plan.PageSize != 0 || size == 0 || addr < next || addr > maxMemory || size > maxMemory-addr {
			return errors.Errorf("memory to write: %#x bytes at %#x, expected whole pages at or above %#x", size, addr, next)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next = addr + size
		w.total += size
		if w.segs = addRange(w.segs, r); len(w.segs) == 2*maxSegs {
			w.segs = join(w.segs, maxSegs)
		}
	}
	w.segs = join(w.segs, maxSegs)
	return nil
}

// again yields the ranges once more, and records the holes between them. left,
// the bytes still to come, is 0 in the end if the ranges have not changed.
func (w *Writer) again(left *uint64) iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		segs, at := w.segs, uint64(0)
		for r := range w.mem.Ranges() {
			for len(segs) > 0 && r.Addr >= segs[0].End() {
				segs = segs[1:]
			}
			if len(segs) == 0 || (r.Addr|r.Size)%plan.PageSize != 0 || r.Addr < max(at, segs[0].Addr) || r.Size > segs[0].End()-r.Addr {
				*left = 1
				return
			}
			if at = max(at, segs[0].Addr); at < r.Addr {
				w.lack(physmem.Between(at, r.Addr))
			}
			at = r.End()
			*left -= r.Size
			if !yield(r) {
				return
			}
		}
	}
}

// lack records a hole: memory that is in no range, or that could not be read.
func (w *Writer) lack(hole physmem.Range) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holes = addRange(w.holes, hole)
	if len(w.holes) >= keptHoles {
		w.keep(keptHoles / 2)
	}
}

// keep sorts the holes, joins adjacent ones, which may be from several workers,
// and gives up all but the n biggest.
func (w *Writer) keep(n int) {
	merged := physmem.Union(w.holes)
	sizes := make([]uint64, len(merged))
	for i, h := range merged {
		sizes[i] = h.Size
	}
	big := biggest(sizes, n)
	w.holes = merged[:0]
	for _, h := range merged {
		if big(h.Size) {
			w.holes = append(w.holes, h)
		} else {
			w.zeros += h.Size
		}
	}
}

// join joins the ranges, which are sorted, across the smallest gaps until there
// are n at most.
func join(rs []physmem.Range, n int) []physmem.Range {
	if len(rs) <= n {
		return rs
	}
	gaps := make([]uint64, len(rs)-1)
	for i := range gaps {
		gaps[i] = rs[i+1].Addr - rs[i].End()
	}
	big := biggest(slices.Clone(gaps), n-1)
	joined := rs[:1]
	for i, r := range rs[1:] {
		if big(gaps[i]) {
			joined = append(joined, r)
		} else {
			joined[len(joined)-1].Size += gaps[i] + r.Size
		}
	}
	return joined
}

// biggest returns a predicate for the n biggest sizes, of equal ones the first;
// call it once for each size, in order. It sorts sizes.
func biggest(sizes []uint64, n int) func(size uint64) bool {
	if len(sizes) <= n {
		return func(uint64) bool { return true }
	}
	slices.Sort(sizes)
	sizes = sizes[len(sizes)-n:]
	least := sizes[0]
	equal := 0
	for _, s := range sizes {
		if s == least {
			equal++
		}
	}
	return func(size uint64) bool {
		if size == least {
			equal--
			return equal >= 0
		}
		return size > least
	}
}

// addRange adds r, to the last of the ranges where it goes on there.
func addRange(rs []physmem.Range, r physmem.Range) []physmem.Range {
	if i := len(rs) - 1; i >= 0 && rs[i].End() == r.Addr {
		rs[i].Size += r.Size
		return rs
	}
	return append(rs, r)
}
