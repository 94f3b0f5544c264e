package guest

import (
	"iter"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// A Tally counts a guest's memory by where it is, in bytes.
type Tally struct {
	EPT     uint64 // mapped by EPT
	Process uint64 // not by EPT, but by the process
	Swapped uint64 // not by EPT, and swapped out by the host
	MMIO    uint64 // emulated devices' that the guest has accessed
	// Tables is what those tables may map that are missing in the dump or cannot
	// be followed. It is an upper bound, and can be large.
	Tables uint64
	// Incomplete means that there are more tables than a walk reads.
	Incomplete bool
}

// Tally counts the guest's memory. It goes through all tables, and reads none
// of that memory.
func (m *Physical) Tally() (t Tally) {
	m.pieces(func(_, size uint64, byEPT bool, err error) bool {
		switch {
		case err == nil && byEPT:
			t.EPT += size
		case err == nil:
			t.Process += size
		case errors.Is(err, ErrMMIO):
			t.MMIO += size
		case errors.Is(err, ErrSwapped):
			t.Swapped += size
		case errors.Is(err, ErrTooManyTables):
			t.Incomplete = true
		default:
			t.Tables += size
		}
		return true
	})
	return t
}

// Exceeds reports whether EPT and the process map more than limit bytes. It
// stops there: tables that refer to one another can map 256 TiB out of a few
// pages.
func (m *Physical) Exceeds(limit uint64) bool {
	total := uint64(0)
	return !m.pieces(func(_, size uint64, _ bool, err error) bool {
		if err == nil {
			total += size
		}
		return total <= limit
	})
}

// Empty reports whether EPT has no entry at all, so that nothing tells where
// the guest's memory is. KVM drops all of EPT when a memory slot is removed,
// and fills it again as the guest runs.
func (m *Physical) Empty() bool {
	if m.ept == nil {
		return false
	}
	for range m.ept.Mappings() {
		return false
	}
	return len(m.Slots()) == 0
}

// Ranges implements [physmem.Memory]: the guest-physical memory that EPT or the
// process map, in whole pages. Some of it may not be in the dump: ReadPhys then
// returns an error.
func (m *Physical) Ranges() iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		m.pieces(func(gpa, size uint64, _ bool, err error) bool {
			return err != nil || yield(physmem.Range{Addr: gpa, Size: size})
		})
	})
}

// pieces yields all of the guest's memory by rising address, in pieces that one
// entry maps, or to which one error applies. It reports whether yield never
// asked it to stop.
func (m *Physical) pieces(yield func(gpa, size uint64, byEPT bool, err error) bool) bool {
	var w *x86.Walker
	if m.proc != nil {
		w = m.proc.tables.Walker()
	}
	done := uint64(0) // everything below has been yielded
	if m.ept == nil {
		return m.untouched(w, done, x86.EPTEnd, yield)
	}
	for e, err := range m.ept.Mappings() {
		if !m.untouched(w, done, e.Addr, yield) {
			return false
		}
		done = e.Addr
		if err == nil || errors.Is(err, ErrMMIO) {
			done += e.Size
		}
		if !yield(e.Addr, e.Size, true, err) {
			return false
		}
	}
	return m.untouched(w, done, x86.EPTEnd, yield)
}

// untouched yields what slots have between the guest-physical addresses lo and
// hi, where EPT maps nothing.
func (m *Physical) untouched(w *x86.Walker, lo, hi uint64, yield func(gpa, size uint64, byEPT bool, err error) bool) bool {
	for lo < hi {
		s, ok := m.slot(lo)
		if !ok || s.GPA >= hi {
			return true
		}
		delta := s.HVA - s.GPA
		lo = max(lo, s.GPA)
		end := min(hi, s.GPA+s.Size)
		for user, err := range w.In(lo+delta, end+delta-1) {
			user.Addr -= delta
			user = clip(user, lo, end)
			if !yield(user.Addr, user.Size, false, err) {
				return false
			}
		}
		lo = end
	}
	return true
}
