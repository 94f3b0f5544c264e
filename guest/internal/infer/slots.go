package infer

import (
	"iter"
	"slices"

	"vmcsnote/internal/x86"
)

const pageSize = x86.PageSize

// A Mapper is tables that map addresses, and whatever they map.
type Mapper interface {
	Mappings() iter.Seq2[x86.Mapping, error]
}

// A Process is the user half of the address space of the process that runs a
// guest.
type Process interface {
	Mapper
	// Translate finds what maps an address. With an error the mapping is the
	// stretch for which the error holds.
	Translate(hva uint64) (x86.Mapping, error)
	// End is the first address that is not in the user half.
	End() uint64
}

// A Slot is guest-physical memory that lies in one piece in the process.
type Slot struct {
	GPA, HVA uint64 // of the first byte
	Size     uint64 // bytes
	// Pages are the 4 KiB pages that EPT maps to where the process has them:
	// what the slot was inferred from, and verified by. 0 for RAM from 0 on
	// that goes by the memory above it.
	Pages uint64
}

// Memory slots are inferred without debug information: KVM fills EPT from the
// process's page tables. So if EPT maps a guest page, and the process maps the
// same host page in one place only, the two addresses belong together. HVA -
// GPA, the delta, tells the slot.
//
// One host page in many places is the zero page or one merged by KSM. It has no
// vote, but belongs to a slot that others voted for.
//
// First a sample of EPT's mappings votes (sample.go). Then all of EPT's
// mappings are gone through: a delta explains a piece of memory if the process
// maps the same host page there, and the piece extends a run of that delta.
// Pieces that no delta explains are sampled anew, so that slots which the
// sample missed vote in the next round. The runs, in order of GPA, are certain;
// extent.go judges how far the slots reach beyond them.
const (
	maxRounds = 8
	// maxDeltas and maxRuns bound the deltas and runs. A guest of QEMU has some
	// ten, and one for each DIMM plugged in. With more there are no slots: the
	// tables are noise, or those of a nested guest, whose memory lies in its
	// host's wherever that had room.
	maxDeltas = 256
	maxRuns   = 1024
	// maxProbes bounds the pages for which all deltas are tried, per round.
	maxProbes = 1 << 22
	// maxPieces bounds the pieces gone through, in all rounds together: three
	// rounds over 1 TiB in 4 KiB pages.
	maxPieces = 3 << 28
)

// A run is memory that EPT maps, from its first to its last byte of one delta,
// with no byte of another between.
type run struct {
	lo, hi uint64 // GPA; hi is the first byte after it
	delta  uint64 // HVA - GPA, modulo 2^64
	pages  uint64 // of 4 KiB that are explained
}

// Slots infers the slots of the guest whose memory ept maps, run by proc.
func Slots(ept Mapper, proc Process) []Slot {
	var deltas []uint64
	pieces := maxPieces
	for range maxRounds {
		c := classifier{proc: proc, deltas: deltas, probes: maxProbes}
		if !c.all(ept, &pieces) {
			return nil
		}
		votes, ok := c.rest.pairs(proc)
		known := len(deltas)
		for _, p := range votes {
			if d := p.hva - p.addr; !slices.Contains(deltas, d) {
				deltas = append(deltas, d)
			}
			if len(deltas) > maxDeltas {
				return nil
			}
		}
		switch {
		case !ok:
			return nil
		case len(deltas) == known:
			return extend(c.runs, proc)
		}
	}
	return nil
}

// A classifier sorts EPT's mappings by the deltas that explain them.
type classifier struct {
	proc   Process
	deltas []uint64
	last   int // the delta that explained the piece before
	probes int
	runs   []run
	rest   sample // what no delta explains
}

// all sorts them, and takes from the budget the pieces they come in. It is
// false where they are too many, or too many runs.
func (c *classifier) all(ept Mapper, budget *int) bool {
	for m, err := range ept.Mappings() {
		if err != nil {
			continue
		}
		for done := uint64(0); done < m.Size; {
			piece := m
			piece.Addr, piece.Phys, piece.Size = m.Addr+done, m.Phys+done, m.Size-done
			done += c.piece(piece)
			if *budget--; *budget < 0 || len(c.runs) > maxRuns {
				return false
			}
		}
	}
	return true
}

// piece sorts the first bytes of m, and returns how many: as far as the
// process has one mapping.
func (c *classifier) piece(m x86.Mapping) uint64 {
	if len(c.deltas) == 0 {
		c.rest.add(m)
		return m.Size
	}
	size, user, ok := c.explains(c.last, m)
	// Where both map it read-only, it may be a page shared with everything
	// alike; it tells something only if no other delta explains it as well.
	shared := ok && m.Entry&x86.EPTWrite == 0 && user.Entry&x86.Write == 0
	if ok && !shared {
		c.extend(m.Addr, size)
		return size
	}
	if c.probes == 0 {
		return size
	}
	c.probes--
	found := -1
	for i := range c.deltas {
		n, _, ok := c.explains(i, m)
		size = min(size, n)
		switch {
		case ok && found >= 0:
			return size // ambiguous
		case ok:
			found = i
		}
	}
	if found < 0 {
		m.Size = size
		c.rest.add(m)
		return size
	}
	c.last = found
	c.extend(m.Addr, size)
	return size
}

// explains reports whether the process maps the start of m with the i-th delta,
// and for how many bytes that, or the contrary, holds.
func (c *classifier) explains(i int, m x86.Mapping) (size uint64, user x86.Mapping, ok bool) {
	hva := m.Addr + c.deltas[i]
	user, err := c.proc.Translate(hva)
	skip := hva - user.Addr
	size = min(m.Size, user.Size-skip)
	return size, user, err == nil && user.Phys+skip == m.Phys
}

// extend lets the last delta's run reach to gpa + size.
func (c *classifier) extend(gpa, size uint64) {
	delta := c.deltas[c.last]
	if n := len(c.runs); n == 0 || c.runs[n-1].delta != delta {
		c.runs = append(c.runs, run{lo: gpa, delta: delta})
	}
	r := &c.runs[len(c.runs)-1]
	r.hi = gpa + size
	r.pages += size / pageSize
}
