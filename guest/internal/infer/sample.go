package infer

import (
	"maps"
	"slices"
	"sort"

	"vmcsnote/internal/x86"
)

const (
	// maxSample bounds the pages sampled: some 3 MiB.
	maxSample = 1 << 16
	// maxOffers bounds the pages that are offered for a sample, 2 MiB of them
	// that it does not want counting as one: 8 TiB in 4 KiB pages.
	maxOffers = 1 << 31
	// maxHits bounds the work of finding a sample's pages in a process.
	maxHits = 1 << 26

	frameShift = 21 - 12 // pages are sampled by the 2 MiB of host memory they are in
)

// A sample is host pages with an address of the guest's for each. Which pages
// are in it is for a hash of the host's address to decide, so that both sides
// of the comparison can tell without knowing the other. While there are no more
// than maxSample pages, they are all in it.
type sample struct {
	addr   map[uint64]uint64 // by the host's page frame number
	mask   uint64            // bits of the hash that are 0 in all frames sampled
	offers int64
}

func (s *sample) wants(frame uint64) bool { return x86.Mix(frame)&s.mask == 0 }

// add samples the host pages that a mapping of the guest's memory has.
func (s *sample) add(m x86.Mapping) {
	if s.addr == nil {
		s.addr = make(map[uint64]uint64)
	}
	first := m.Phys / pageSize
	for pfn := first; pfn < first+m.Size/pageSize; pfn++ {
		if s.offers++; s.offers > maxOffers {
			return
		}
		frame := pfn >> frameShift
		if !s.wants(frame) {
			pfn = (frame+1)<<frameShift - 1
			continue
		}
		if _, ok := s.addr[pfn]; ok {
			if m.Size > pageSize {
				return // a large page in two places: noise, of which there can be 256 TiB
			}
			continue
		}
		s.addr[pfn] = m.Addr + (pfn-first)*pageSize
		for len(s.addr) > maxSample {
			s.mask = s.mask<<1 | 1
			maps.DeleteFunc(s.addr, func(pfn, _ uint64) bool { return !s.wants(pfn >> frameShift) })
		}
	}
}

// A pair is an address of the guest and one of the process that are of the same
// host page.
type pair struct{ addr, hva uint64 }

// pairs finds the sample's pages in the process, and gives those that it maps
// once. It is false where that takes too long.
func (s *sample) pairs(proc Process) (ps []pair, ok bool) {
	if len(s.addr) == 0 {
		return nil, true
	}
	pfns := slices.Sorted(maps.Keys(s.addr))
	hva := make([]uint64, len(pfns))
	seen := make([]uint8, len(pfns)) // 2 is more than once
	hits := maxHits
	for m, err := range proc.Mappings() {
		first := m.Phys / pageSize
		if err != nil || m.Size == pageSize && !s.wants(first>>frameShift) {
			continue
		}
		i := sort.Search(len(pfns), func(i int) bool { return pfns[i] >= first })
		for ; i < len(pfns) && pfns[i]-first < m.Size/pageSize; i++ {
			if hits--; hits < 0 {
				return nil, false
			}
			hva[i] = m.Addr + (pfns[i]-first)*pageSize
			seen[i] = min(seen[i]+1, 2)
		}
	}
	for i, pfn := range pfns {
		if seen[i] == 1 {
			ps = append(ps, pair{s.addr[pfn], hva[i]})
		}
	}
	return ps, true
}
