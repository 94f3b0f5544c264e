package vmcs

import (
	"slices"
	"sync"
)

// A shortlist keeps the best of any number of pages, added in any order.
type shortlist struct {
	max int // pages kept
	// weigh, if not nil, returns the score of a page with all that it leads to.
	// Pages are weighed only if some must be dropped: anybody can make pages that
	// look as good as a VMCS, but not what the host's kernel has them lead to.
	weigh func(addr uint64) int

	mu      sync.Mutex
	keys    []uint64 // score, the best first, above page number
	weighed int      // of keys, the first
	dropped int
}

const (
	pfnBits  = 40      // of an address below maxPhys
	topScore = 1 << 20 // no page has more points
)

// add takes a page. Of pages with equal scores the lowest addresses are kept.
func (s *shortlist) add(addr uint64, score int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, uint64(topScore-score)<<pfnBits|addr/PageSize)
	if len(s.keys) >= 2*s.max {
		s.cut()
	}
}

func (s *shortlist) cut() {
	n := len(s.keys) - s.max
	if n > 0 && s.weigh != nil {
		for i := s.weighed; i < len(s.keys); i++ {
			pfn := s.keys[i] & (1<<pfnBits - 1)
			s.keys[i] = uint64(topScore-s.weigh(pfn*PageSize))<<pfnBits | pfn
		}
		s.weighed = s.max
	}
	slices.Sort(s.keys)
	if n > 0 {
		s.dropped += n
		s.keys = s.keys[:s.max]
	}
}

// addrs returns the pages kept, the best first.
func (s *shortlist) addrs() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
	addrs := make([]uint64, len(s.keys))
	for i, k := range s.keys {
		addrs[i] = k & (1<<pfnBits - 1) * PageSize
	}
	return addrs
}
