package guest

import (
	"math/bits"
	"slices"

	"vmcsnote/vmcs"
)

// Once gives the guest's memory that is in the host's, host, and each page of
// the host's once, at the lowest guest-physical address that maps it. However
// much a guest's tables claim to map, what is given is no more than the host
// has. It takes a bit for each page of the host's, and 16 bytes for each of its
// ranges.
func (m *Memory) Once(host vmcs.Ranges) vmcs.Ranges {
	return func(yield func(addr, size uint64) bool) {
		p := newHostPages(host)
		var addr, size uint64 // not given yet
		more := m.pieces(func(gpa, n uint64, _ bool, err error) bool {
			for err == nil && n > 0 {
				phys, k, terr := m.stretch(gpa, n)
				if terr != nil {
					break
				}
				if !p.take(phys, k, func(at, n uint64) bool {
					at += gpa - phys
					if at == addr+size {
						size += n
						return true
					}
					a, s := addr, size
					addr, size = at, n
					return s == 0 || yield(a, s)
				}) {
					return false
				}
				gpa, n = gpa+k, n-k
			}
			return true
		})
		if more && size > 0 {
			yield(addr, size)
		}
	}
}

// hostPages are the pages of a host, of which each can be taken once.
type hostPages struct {
	ranges []bounds
	chunks map[uint64]*pageChunk // by address / chunkSize
}

// bounds is memory from its first byte to the one after its last.
type bounds struct{ lo, hi uint64 }

const (
	chunkSize  = 128 << 20
	chunkPages = chunkSize / pageSize
)

// A pageChunk tells which pages of chunkSize bytes have been taken.
type pageChunk struct {
	left  int // pages there are, and not taken
	taken [chunkPages / 64]uint64
}

func newHostPages(host vmcs.Ranges) *hostPages {
	p := &hostPages{chunks: make(map[uint64]*pageChunk)}
	for addr, size := range host {
		lo, hi := (addr+pageSize-1)&^(pageSize-1), (addr+size)&^(pageSize-1)
		if addr+size < addr || lo >= hi {
			continue
		}
		if n := len(p.ranges); n > 0 && p.ranges[n-1].hi >= lo {
			p.ranges[n-1].hi = max(p.ranges[n-1].hi, hi)
			continue
		}
		p.ranges = append(p.ranges, bounds{lo, hi})
	}
	return p
}

// within gives the parts of memory from lo to hi that the host has.
func (p *hostPages) within(lo, hi uint64, yield func(lo, hi uint64) bool) bool {
	i, _ := slices.BinarySearchFunc(p.ranges, lo, func(s bounds, addr uint64) int {
		if s.hi <= addr {
			return -1
		}
		return 1
	})
	for ; i < len(p.ranges) && p.ranges[i].lo < hi; i++ {
		if !yield(max(lo, p.ranges[i].lo), min(hi, p.ranges[i].hi)) {
			return false
		}
	}
	return true
}

// take gives the runs of pages from phys on that the host has and that have not
// been taken. It is false if yield is.
func (p *hostPages) take(phys, size uint64, yield func(addr, size uint64) bool) bool {
	for end := phys + size; phys < end; {
		n := phys / chunkSize
		next := min(end, (n+1)*chunkSize)
		c := p.chunks[n]
		if c == nil {
			if c = p.chunk(n); c != nil { // tables may lead anywhere: keep nothing for what is not there
				p.chunks[n] = c
			}
		}
		if c != nil && c.left > 0 && !p.within(phys, next, func(lo, hi uint64) bool { return c.take(lo, hi, yield) }) {
			return false
		}
		phys = next
	}
	return true
}

// chunk makes the n-th chunk; nil where the host has none of it.
func (p *hostPages) chunk(n uint64) *pageChunk {
	left := 0
	p.within(n*chunkSize, (n+1)*chunkSize, func(lo, hi uint64) bool {
		left += int((hi - lo) / pageSize)
		return true
	})
	if left == 0 {
		return nil
	}
	return &pageChunk{left: left}
}

// take gives the runs of pages from lo to hi, all of the chunk, not taken yet.
func (c *pageChunk) take(lo, hi uint64, yield func(addr, size uint64) bool) bool {
	var addr, size uint64
	for at := lo; at < hi; {
		i := at % chunkSize / pageSize
		word := &c.taken[i/64]
		if ones := uint64(bits.TrailingZeros64(^(*word >> (i % 64)))); ones > 0 { // taken
			at += min(ones, 64-i%64) * pageSize
			continue
		}
		*word |= 1 << (i % 64)
		c.left--
		if at != addr+size || size == 0 {
			if size > 0 && !yield(addr, size) {
				return false
			}
			addr, size = at, 0
		}
		size += pageSize
		at += pageSize
	}
	return size == 0 || yield(addr, size)
}
