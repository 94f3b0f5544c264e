package vmcs

import (
	"slices"
	"sync"
)

// A shortlist keeps the best pages of any number, whatever their order.
type shortlist struct {
	max int // pages kept

	mu      sync.Mutex
	keys    []uint64 // score, the best first, above page number
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
	slices.Sort(s.keys)
	if n := len(s.keys) - s.max; n > 0 {
		s.dropped += n
		s.keys = s.keys[:s.max]
	}
}

// addrs gives the pages kept, the best first.
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
