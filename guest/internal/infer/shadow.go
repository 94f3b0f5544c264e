package infer

import (
	"slices"
	"sort"

	"vmcsnote/internal/x86"
)

// Without EPT nothing in a VMCS leads to guest-physical memory: GUEST_CR3
// points to tables of KVM's own, which turn GVA into HPA at one go. Yet there
// is a way, and it proves itself:
//
//   - KVM's tables and the process's, put together, give GVA and HVA of pages.
//   - The guest's own tables turn GVA into GPA. They are in the guest's memory,
//     which the process has, and the highest of them is at the guest's CR3,
//     which KVM keeps in the vCPU's structure.
//   - So each page that the process has may be that table, and then HVA - CR3
//     is the slot's delta. It is, if with that delta the guest's tables, four
//     levels of them, turn the GVAs of the pages into GPAs which with that
//     delta are the HVAs.
//
// While the guest's paging is off, KVM's tables turn GPA into HPA, as EPT does.
const (
	// maxTries bounds the walks made with pages that may be the guest's highest
	// table: 8 GiB of pages, of which two walks tell that they are not.
	maxTries = 1 << 22
	// wantPairs is how many pages must come out right, and mostPairs how many
	// are looked at.
	wantPairs = 3
	mostPairs = 64
)

// A Shadow is a guest without EPT, whose paging is on.
type Shadow struct {
	// Tables are KVM's: from GVA to HPA.
	Tables  Mapper
	Process Process
	// CR3 is where the guest's own highest table is, for KVM.
	CR3 uint64
	// Paging returns the guest's own paging, for a guest whose memory is where
	// the slots have it. It holds until Paging is called again, which does not
	// keep the slots: it is called for each page of a process.
	Paging func(slots []Slot) Paging
}

// A Paging turns a GVA into a GPA.
type Paging func(gva uint64) (gpa uint64, ok bool)

// Slots infers the guest's slots. It is false if none are proven to be the
// guest's.
func (s *Shadow) Slots() (slots []Slot, ok bool) {
	var sampled sample
	for leaf, err := range s.Tables.Mappings() {
		if err == nil {
			sampled.add(leaf)
		}
	}
	ps, ok := sampled.pairs(s.Process)
	if !ok || len(ps) < wantPairs {
		return nil, false
	}
	if slots = s.findRoot(Spread(ps, mostPairs)); slots == nil {
		return nil, false
	}
	// With one slot known, and the tables in it, others come to light.
	for range maxRounds {
		known := slots
		if slots = extend(shadowRuns(s.Paging(known), ps), s.Process); slices.Equal(slots, known) {
			break
		}
	}
	return slots, true
}

// Spread takes at most n of all, spread over them.
func Spread[T any](all []T, n int) (some []T) {
	step := len(all)/n + 1
	for i := 0; i < len(all); i += step {
		some = append(some, all[i])
	}
	return some
}

// findRoot tries the process's pages for the one that the guest's CR3 points
// to. It returns one slot, the whole of the process by that page's delta.
func (s *Shadow) findRoot(ps []pair) []Slot {
	tries := maxTries
	slots := make([]Slot, 1)
	for u, err := range s.Process.Mappings() {
		for at := u.Addr; err == nil && at < u.Addr+u.Size; at += pageSize {
			delta := at - s.CR3
			first := uint64(0)
			if delta >= s.Process.End() {
				first = -delta
			}
			slots[0] = Slot{GPA: first, HVA: first + delta, Size: s.Process.End() - (first + delta)}
			if proven(s.Paging(slots), ps, delta, &tries) {
				return slots
			}
			if tries <= 0 {
				return nil
			}
		}
	}
	return nil
}

// proven reports whether the guest's tables are where a delta has them. Pages
// of other slots may contradict, but not most. It takes the walks from the
// budget.
func proven(page Paging, ps []pair, delta uint64, budget *int) bool {
	right, wrong := 0, 0
	for i, p := range ps {
		if i == 2 && right+wrong == 0 {
			break
		}
		*budget--
		switch gpa, ok := page(p.addr); {
		case ok && gpa+delta == p.hva:
			right++
		case ok:
			wrong++
		}
	}
	return right >= wantPairs && right > wrong
}

// shadowRuns returns the runs of those pages whose GPA the guest's tables tell,
// so far as these are in slots that are known. A delta that few pages have is
// out of a table that was read in a wrong place.
func shadowRuns(page Paging, ps []pair) (runs []run) {
	pages := make(map[uint64]int) // by delta
	var found []pair              // GPA and HVA
	for _, p := range ps {
		if gpa, ok := page(p.addr); ok && gpa < x86.EPTEnd {
			found = append(found, pair{gpa, p.hva})
			pages[p.hva-gpa]++
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].addr < found[j].addr })
	for _, p := range found {
		delta := p.hva - p.addr
		if pages[delta] < wantPairs {
			continue
		}
		if n := len(runs); n == 0 || runs[n-1].delta != delta {
			if n == maxRuns {
				break
			}
			runs = append(runs, run{lo: p.addr, delta: delta})
		}
		r := &runs[len(runs)-1]
		r.hi = p.addr + pageSize
		r.pages++
	}
	return runs
}
