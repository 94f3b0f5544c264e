package vmcs

import (
	"encoding/binary"
	"slices"
	"sync"

	"vmcsnote/physmem"
)

const (
	// maxSieve bounds the pages that a Sieve keeps: 8 MB of addresses.
	maxSieve = 1 << 20
	// maxAbort is above all VMX-abort indicators. The SDM has 6 reasons for a
	// VMX abort; no processor has had many more.
	maxAbort = 16
)

// A Sieve keeps which pages of memory may be VMCSs, so that a search by layouts
// that are found in the same pass need not read all memory again: see
// [Search.Sieve]. The zero value is ready to use.
type Sieve struct {
	seen
	addrs []uint64
	full  bool // there are more
}

// Look looks at the memory at addr. Several goroutines may call it at a time.
// It never fails.
func (s *Sieve) Look(addr uint64, b []byte) error {
	var found []uint64
	known := builtinIDs()
	pages := eachPage(addr, b, func(at uint64, page []byte) {
		id := binary.LittleEndian.Uint32(page) & maxRevisionID
		if id == 0 {
			return
		}
		if small := id < maxStrangers && binary.LittleEndian.Uint32(page[4:]) < maxAbort; small || known[id] {
			found = append(found, at)
		}
	})
	s.count(pages)
	if len(found) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = s.full || len(s.addrs)+len(found) > maxSieve
	if !s.full {
		s.addrs = append(s.addrs, found...)
	}
	return nil
}

// Lost is told of a page that cannot be read; see [physmem.ScanOptions].
func (s *Sieve) Lost(addr uint64, err error) { s.miss(addr, err) }

// serves reports whether the sieve has kept all pages that a layout may
// explain.
func (s *Sieve) serves(l *Layout) bool {
	known := builtinIDs()
	for _, id := range append([]uint32{l.RevisionID}, l.OtherIDs...) {
		if s.full || id == 0 || id >= maxStrangers && !known[id] {
			return false
		}
	}
	return true
}

// within returns the memory that is in m and that the sieve has kept.
func (s *Sieve) within(m physmem.Reader) physmem.Memory {
	slices.Sort(s.addrs)
	return physmem.With(m, physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, addr := range s.addrs {
			if !yield(physmem.Range{Addr: addr, Size: PageSize}) {
				return
			}
		}
	}))
}

// seen counts the pages of memory that a scan has seen.
type seen struct {
	mu     sync.Mutex
	pages  uint64 // looked at
	lost   uint64 // that could not be read
	missed uint64 // address of the first of these
	err    error  // and why
}

func (s *seen) count(pages uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages += pages
}

// miss counts a page that could not be read.
func (s *seen) miss(addr uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost++; s.err == nil || addr < s.missed {
		s.missed, s.err = addr, err
	}
}

// eachPage shows the whole pages of b, which lies at addr, to look, and returns
// how many there are.
func eachPage(addr uint64, b []byte, look func(at uint64, page []byte)) uint64 {
	r := physmem.Range{Addr: addr, Size: uint64(len(b))}.Intersect(physmem.Range{Size: maxPhys}).Pages(PageSize)
	for at := r.Addr; at < r.End(); at += PageSize {
		look(at, b[at-addr:][:PageSize:PageSize])
	}
	return r.Size / PageSize
}
