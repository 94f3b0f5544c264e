package infer

import (
	"math/bits"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
)

// How far a slot reaches is nowhere in the page tables. What is in a run is
// certain; what is beyond, in pages that the guest never touched, is judged:
//
//   - Between two runs the slots part at the roundest address there is: RAM
//     ends at 0xa0000 or 0xc0000000, not at 0x9f000.
//   - VMMs align RAM to 2 MiB in both address spaces, for huge pages. So a slot
//     reaches to the ends of the units its run begins and ends in, the unit
//     being the largest power of two, up to 2 MiB, that divides the delta; and
//     from there on over 2 MiB units that the process maps without a hole
//     (hugetlbfs, or memory allocated in advance).
//   - Guests have memory from 0 to 0xa0000: a slot in there begins at 0.
//   - No byte of the process is in two slots, unless EPT says so.
const (
	maxUnit  = 2 << 20
	lowSlots = 0xa0000
	// maxFull bounds the entries looked at for whole units.
	maxFull = 1 << 24
)

// extend makes slots of the runs, which are in order of GPA.
func extend(runs []run, proc Process) []Slot {
	reach := make([]run, len(runs))
	budget := maxFull
	for i := range runs {
		reach[i] = reachOf(runs, i, proc, &budget)
	}
	for i := range runs {
		for j := range runs {
			part(runs[i], runs[j], &reach[i], &reach[j])
		}
	}
	var slots []Slot
	for _, r := range reach {
		slots = append(slots, Slot{GPA: r.lo, HVA: r.lo + r.delta, Size: r.hi - r.lo, Pages: r.pages})
	}
	return fillLow(slots, proc)
}

const (
	vgaStart, vgaEnd = 0xa0000, 0xc0000
	// ramEnd is below where any VMM has its devices, and RAM from 0 on ends.
	ramEnd = 3 << 30
)

// fillLow returns the RAM from 0 on what EPT no longer maps of it. KVM drops
// EPT entries when a slot is removed, and those that come back may be of the
// firmware and of memory above: what the guest had below is in the process
// alone. The RAM is the lowest slot aligned to 2 MiB in both address spaces. It
// begins at 0 if the process has pages where it would have the first MiB, and
// none right before.
func fillLow(slots []Slot, proc Process) []Slot {
	i := slices.IndexFunc(slots, func(s Slot) bool { return (s.HVA-s.GPA)%maxUnit == 0 && s.HVA > s.GPA })
	if i < 0 || slots[i].GPA == 0 || slots[i].GPA >= ramEnd {
		return slots
	}
	ram := slots[i]
	delta := ram.HVA - ram.GPA
	if _, err := proc.Translate(delta - 1); !errors.Is(err, x86.ErrNotMapped) || !anyPage(proc, delta, 1<<20) {
		return slots
	}
	filled := slices.Clone(slots[i:])
	var low []Slot
	add := func(lo, hi uint64) {
		for _, s := range slots { // no byte of the process is in two slots
			if s.HVA < hi+delta && lo+delta < s.HVA+s.Size {
				return
			}
		}
		if lo < hi && anyPage(proc, lo+delta, hi-lo) {
			low = append(low, Slot{GPA: lo, HVA: lo + delta, Size: hi - lo})
		}
	}
	at := uint64(0)
	for _, s := range append(slices.Clone(slots[:i]), Slot{GPA: ram.GPA}) {
		add(min(at, vgaStart), min(s.GPA, vgaStart))
		add(max(at, vgaEnd), max(s.GPA, vgaEnd))
		if s.Size > 0 {
			low = append(low, s)
			at = s.GPA + s.Size
		}
	}
	if n := len(low); n > 0 && low[n-1].GPA+low[n-1].Size == ram.GPA && low[n-1].HVA+low[n-1].Size == ram.HVA {
		filled[0] = Slot{GPA: low[n-1].GPA, HVA: low[n-1].HVA, Size: low[n-1].Size + ram.Size, Pages: low[n-1].Pages + ram.Pages}
		low = low[:n-1]
	}
	return append(low, filled...)
}

// anyPage reports whether the process has a page, swapped out or not, from hva
// on.
func anyPage(p Process, hva, size uint64) bool {
	for done := uint64(0); done < size; {
		m, err := p.Translate(hva + done)
		if err == nil || errors.Is(err, x86.ErrSwapped) {
			return true
		}
		done += m.Size - (hva + done - m.Addr)
	}
	return false
}

// reachOf returns the i-th run with as much around it as its slot may have.
func reachOf(runs []run, i int, proc Process, budget *int) run {
	r := runs[i]
	lo, hi := limits(runs, i)
	unit := uint64(maxUnit)
	if r.delta != 0 {
		unit = min(unit, 1<<bits.TrailingZeros64(r.delta))
	}
	from, to := max(lo, r.lo&^(unit-1)), min(hi, (r.hi+unit-1)&^(unit-1))
	if r.lo < lowSlots {
		from = lo
	}
	if unit == maxUnit {
		for from-lo >= unit && from%unit == 0 && allPages(proc, from-unit+r.delta, unit, budget) {
			from -= unit
		}
		for hi-to >= unit && to%unit == 0 && allPages(proc, to+r.delta, unit, budget) {
			to += unit
		}
	}
	r.lo, r.hi = from, to
	return r
}

// limits returns the GPAs between which the slot of the i-th run must be.
func limits(runs []run, i int) (lo, hi uint64) {
	r := runs[i]
	lo, hi = 0, x86.EPTEnd
	if first := -r.delta; first <= r.lo { // the GPA of HVA 0
		lo = first
	}
	if i > 0 {
		lo = max(lo, roundest(runs[i-1].hi, r.lo))
	}
	if i+1 < len(runs) {
		hi = roundest(r.hi, runs[i+1].lo)
	}
	for _, o := range runs {
		if end := o.hi + o.delta; end <= r.lo+r.delta {
			if gpa := end - r.delta; gpa <= r.lo {
				lo = max(lo, gpa)
			}
		}
		if start := o.lo + o.delta; start >= r.hi+r.delta {
			hi = min(hi, start-r.delta)
		}
	}
	return lo, hi
}

// part lets two slots part where both reach for the same bytes of the process,
// a being the one whose run is below b's there.
func part(a, b run, reachA, reachB *run) {
	lo, hi := max(reachB.lo+b.delta, a.hi+a.delta), min(reachA.hi+a.delta, b.lo+b.delta)
	if a.hi+a.delta > b.lo+b.delta || lo >= hi {
		return
	}
	// What is above 4 GiB begins there. What is below may end anywhere.
	delta := b.delta
	if a.lo > b.lo {
		delta = a.delta
	}
	at := roundest(lo-delta, hi-delta) + delta
	reachA.hi, reachB.lo = at-a.delta, at-b.delta
}

// roundest returns the address from lo to hi that the highest power of two
// divides.
func roundest(lo, hi uint64) uint64 {
	if lo >= hi {
		return lo
	}
	// With the highest bit that differs set, and zeros below, the address is
	// in (lo, hi]. lo itself may be rounder.
	n := bits.Len64(lo^hi) - 1
	mid := hi >> n << n
	if bits.TrailingZeros64(lo) > bits.TrailingZeros64(mid) {
		return lo
	}
	return mid
}

// allPages reports whether the process has a page, swapped out or not, at every
// address from hva on. It takes from the budget what it looks at.
func allPages(p Process, hva, size uint64, budget *int) bool {
	for done := uint64(0); done < size; {
		m, err := p.Translate(hva + done)
		*budget--
		if *budget < 0 || err != nil && !errors.Is(err, x86.ErrSwapped) {
			return false
		}
		done += m.Size - (hva + done - m.Addr)
	}
	return true
}
