package infer

import (
	"cmp"
	"slices"
	"sort"
)

// A pick is the array decided on for a vCPU.
type pick struct {
	byPointer, byWords bool
	array              uint64
	from               hit // byPointer
}

// sortHits sorts by address.
func sortHits(hits []hit) {
	sort.Slice(hits, func(i, j int) bool { return hits[i].addr < hits[j].addr })
}

// pickArrays decides which array is which vCPU's. vCPUs of one guest often have
// the same CR0, CR3 and CR4, and their structures may lie side by side (the
// slab that they come from has nothing else), so that the searches find one's
// registers for another. What tells them apart is the pointer: an array is that
// of the next pointer above it, at the same distance for all of them.
func pickArrays(wants []*wanted, directMaps []uint64) []pick {
	picks := make([]pick, len(wants))
	for _, w := range wants {
		slices.Sort(w.arrays)
		sortHits(w.pointers)
	}
	// What the dump says of the direct map is preferred, but not relied on:
	// there are kexec-tools that did not know where KASLR had put it.
	base, votes := most(wants, func(h hit, _ uint64) (uint64, bool) { return h.base, slices.Contains(directMaps, h.base) })
	if votes == 0 {
		base, _ = most(wants, func(h hit, _ uint64) (uint64, bool) { return h.base, true })
	}
	var all []hit // every pointer to any of the VMCSs
	for _, w := range wants {
		w.pointers = slices.DeleteFunc(w.pointers, func(h hit) bool { return h.base != base && len(h.regs) > 0 })
		all = append(all, w.pointers...)
	}
	sortHits(all)
	for _, w := range wants {
		for i := range w.pointers {
			w.pointers[i].nearest(all)
		}
	}
	distance, votes := most(wants, func(h hit, array uint64) (uint64, bool) { return h.addr - array, true })
	taken := make(map[uint64]int)
	for i, w := range wants {
		picks[i] = w.byPointer(distance, votes > 1)
		taken[picks[i].array]++
	}
	words := make(map[uint64]int)
	for i, w := range wants {
		if !picks[i].byPointer {
			picks[i] = w.byWords(taken)
			words[picks[i].array]++
		}
	}
	for i, p := range picks {
		if taken[p.array]+words[p.array] > 1 { // two VMCSs cannot be of one vCPU at a time
			picks[i] = pick{}
		}
	}
	return picks
}

// most returns the value that most vCPUs have in one of their arrays found by
// pointer, and how many vCPUs have it. Of several it returns the lowest; it
// returns 0 vCPUs if no array has one.
func most(wants []*wanted, value func(h hit, array uint64) (uint64, bool)) (best uint64, n int) {
	votes := make(map[uint64]int)
	for _, w := range wants {
		mine := make(map[uint64]bool)
		for _, h := range w.pointers {
			for _, a := range h.regs {
				if v, ok := value(h, a); ok && !mine[v] {
					mine[v] = true
					votes[v]++
				}
			}
		}
	}
	for v, n := range votes {
		if n > votes[best] || n == votes[best] && v < best {
			best = v
		}
	}
	return best, votes[best]
}

// nearest drops all arrays but the highest one below the pointer, and that as
// well if another pointer lies in between. all is sorted by address.
func (h *hit) nearest(all []hit) {
	if len(h.regs) == 0 {
		return
	}
	h.regs = []uint64{slices.Max(h.regs)}
	i, _ := slices.BinarySearchFunc(all, h.addr, func(a hit, addr uint64) int { return cmp.Compare(a.addr, addr) })
	if i > 0 && all[i-1].addr > h.regs[0] {
		h.regs = nil
	}
}

// byPointer picks the array at that distance below a pointer. A pointer in a
// loaded_vmcs, with something pointing back at it, comes before others, which
// may be in freed memory. If only one vCPU tells the distance, the array may be
// that of a freed structure below the vCPU's own, if its own does not match: it
// must have the vCPU's RSP or RIP then.
func (w *wanted) byPointer(distance uint64, agreed bool) pick {
	for _, self := range []bool{true, false} {
		var p pick
		n := 0
		for _, h := range w.pointers {
			if h.self == self && len(h.regs) > 0 && h.addr-h.regs[0] == distance && (agreed || slices.Contains(h.agree, h.regs[0])) {
				p = pick{byPointer: true, array: h.regs[0], from: h}
				n++
			}
		}
		if n > 1 {
			return pick{}
		}
		if n == 1 {
			if slices.Contains(w.arrays, p.array) || slices.Contains(w.exact, p.array) {
				p.byWords = true
			}
			return p
		}
	}
	return pick{}
}

// byWords picks the array that is the only one with the vCPU's CR3 and RSP
// both, and nobody else's. A CR3 or an RSP that is zero tells nothing.
func (w *wanted) byWords(taken map[uint64]int) pick {
	exact := slices.DeleteFunc(slices.Clone(w.exact), func(a uint64) bool { return taken[a] > 0 })
	if len(exact) != 1 || w.cr3 == 0 || w.rsp == 0 || w.fullExact.Load() {
		return pick{}
	}
	return pick{byWords: true, array: exact[0]}
}
