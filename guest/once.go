package guest

import (
	"math/bits"
	"sort"

	"vmcsnote/physmem"
)

// once returns that part of the guest's memory which host has. Each page of the
// host appears once, at the lowest guest-physical address that maps it: however
// much the guest's tables claim to map, the result is no larger than the host.
// It needs a bit for each page of the host, and 16 bytes for each of the host's
// ranges.
func (m *Physical) once(host physmem.Memory) physmem.Memory {
	return physmem.With(m, physmem.Joined(func(yield func(physmem.Range) bool) {
		p := newHostPages(host)
		m.pieces(func(gpa, n uint64, _ bool, err error) bool {
			for err == nil && n > 0 {
				phys, k, terr := m.stretch(gpa, n)
				if terr != nil {
					break
				}
				if !p.take(phys, k, func(at, n uint64) bool { return yield(physmem.Range{Addr: at + gpa - phys, Size: n}) }) {
					return false
				}
				gpa, n = gpa+k, n-k
			}
			return true
		})
	}))
}

// hostPages are the pages of a host, of which each can be taken once.
type hostPages struct {
	ranges []physmem.Range
	chunks map[uint64]*pageChunk // by address / chunkSize
}

const (
	chunkSize  = 128 << 20
	chunkPages = chunkSize / pageSize
)

// A pageChunk tells which pages of chunkSize bytes have been taken.
type pageChunk struct {
	left  int // pages there are, and not taken
	taken [chunkPages / 64]uint64
}

func newHostPages(host physmem.Memory) *hostPages {
	p := &hostPages{chunks: make(map[uint64]*pageChunk)}
	for r := range host.Ranges() {
		if r = r.Pages(pageSize); r.Size > 0 {
			p.ranges = append(p.ranges, r)
		}
	}
	return p
}

// within yields the parts of memory from lo to hi that the host has.
func (p *hostPages) within(lo, hi uint64, yield func(lo, hi uint64) bool) bool {
	i := sort.Search(len(p.ranges), func(i int) bool { return p.ranges[i].End() > lo })
	for ; i < len(p.ranges) && p.ranges[i].Addr < hi; i++ {
		r := p.ranges[i].Intersect(physmem.Between(lo, hi))
		if !yield(r.Addr, r.End()) {
			return false
		}
	}
	return true
}

// take takes the pages from phys on that the host has and that have not been
// taken, and yields them in runs. It returns false if yield does.
func (p *hostPages) take(phys, size uint64, yield func(addr, size uint64) bool) bool {
	for end := phys + size; phys < end; {
		n := phys / chunkSize
		next := min(end, (n+1)*chunkSize)
		c := p.chunks[n]
		if c == nil {
			if c = p.chunk(n); c != nil { // tables may lead anywhere: keep nothing for memory that is missing
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

// chunk makes the n-th chunk; nil if the host has none of it.
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

// take is hostPages.take for the pages from lo to hi, which the chunk has.
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
