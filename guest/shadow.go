package guest

import (
	"slices"
	"sort"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// Without EPT nothing in a VMCS leads to guest-physical memory: GUEST_CR3
// points to tables of KVM's own, which turn GVA into HPA at one go. Yet there
// is a way, and it proves itself:
//
//   - KVM's tables and the process's, put together, give GVA and HVA of pages.
//   - The guest's own tables turn GVA into GPA. They are in the guest's memory,
//     which the process has, and the highest of them is at the guest's CR3, which KVM
//     keeps in the vCPU's structure.
//   - So each page that the process has may be that table, and then HVA - CR3
//     is the slot's delta. It is, if with that delta the guest's tables, four
//     levels of them, turn the GVAs of the pages into GPAs which with that delta
//     are the HVAs.
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

// A Shadow is where the memory of a guest without EPT hangs.
type Shadow struct {
	// Paging is as the VMCS has it: KVM's tables.
	Paging Paging
	// Guest is the paging that the guest believes in, with the CR3 that KVM
	// keeps for it, and CR0 and CR4 as the guest sees them.
	Guest Paging
	// HostCR3 and HostCR4 are HOST_CR3 and HOST_CR4.
	HostCR3, HostCR4 uint64
}

// ShadowOf is where the memory of a vCPU's guest hangs, by its VMCS and its
// registers. It is false where these do not have the guest's CR3 and paging is
// on.
func ShadowOf(v *vmcs.VMCS, r *Registers) (Shadow, bool) {
	s := Shadow{Paging: PagingOf(v), Guest: r.paging()}
	s.HostCR3, _ = v.Read(vmcs.HostCR3)
	s.HostCR4, _ = v.Read(vmcs.HostCR4)
	return s, r.CR0.Known() && r.CR4.Known() && (r.CR3.Known() || s.Guest.Mode() == NoPaging)
}

// OpenShadow opens the memory of a guest without EPT. It fails with [ErrNoEPT]
// if no memory is found that is proven to be the guest's.
func OpenShadow(host physmem.Reader, c Shadow) (*Memory, error) {
	// While the guest's paging is off these tables map guest-physical
	// addresses, which have no sign extension.
	real := c.Guest.Mode() == NoPaging
	format := &x86.Format{Name: "shadow page table", Width: 8, Decode: x86.KVMPages(0)}
	switch c.Paging.Mode() {
	case PagingPAE: // of KVM's highest table, a page, four entries are used
		format.Levels, format.Root = 3, 4
	case Paging4:
		format.Levels, format.Signed = 4, !real
	case Paging5:
		format.Levels, format.Signed = 5, !real
	default:
		return nil, ErrNoEPT // KVM has no such tables
	}
	shadow := &EPT{x86.NewTables(host, format, c.Paging.CR3&x86.AddrMask)}
	m := &Memory{host: host, proc: NewProcess(host, c.HostCR3, c.HostCR4)}
	if real {
		m.ept = shadow
		if m.slots = findSlots(shadow, m.proc); len(m.slots) == 0 {
			return nil, ErrNoEPT
		}
		return m, nil
	}
	var s sample
	for leaf, err := range shadow.Mappings() {
		if err == nil {
			s.add(leaf)
		}
	}
	ps, ok := s.pairs(m.proc)
	if !ok || !m.findRoot(c.Guest, spread(ps, mostPairs)) {
		return nil, ErrNoEPT
	}
	// With one slot known, and the tables in it, others come to light.
	for range maxRounds {
		known := m.slots
		if m.slots = extend(m.runs(c.Guest, ps), m.proc); slices.Equal(m.slots, known) {
			break
		}
	}
	return m, nil
}

// spread takes at most n of all, spread over them.
func spread[T any](all []T, n int) (some []T) {
	step := len(all)/n + 1
	for i := 0; i < len(all); i += step {
		some = append(some, all[i])
	}
	return some
}

// findRoot tries the process's pages for the one that the guest's CR3 points
// to. It leaves one slot, the whole of the process by that page's delta.
func (m *Memory) findRoot(guest Paging, ps []pair) bool {
	tries := maxTries
	for u, err := range m.proc.Mappings() {
		for at := u.Addr; err == nil && at < u.Addr+u.Size; at += pageSize {
			delta := at - guest.CR3&x86.AddrMask
			first := uint64(0)
			if delta >= m.proc.userEnd() {
				first = -delta
			}
			m.slots = []Slot{{GPA: first, HVA: first + delta, Size: m.proc.userEnd() - (first + delta)}}
			if m.proven(guest, ps, delta, &tries) {
				return true
			}
			if tries <= 0 {
				return false
			}
		}
	}
	return false
}

// proven reports whether the guest's tables are where a delta has them. Pages
// of other slots may contradict, but not most. It takes the walks from the
// budget.
func (m *Memory) proven(guest Paging, ps []pair, delta uint64, budget *int) bool {
	right, wrong := 0, 0
	for i, p := range ps {
		if i == 2 && right+wrong == 0 {
			break
		}
		*budget--
		switch gpa, ok := m.page(guest, p.addr); {
		case ok && gpa+delta == p.hva:
			right++
		case ok:
			wrong++
		}
	}
	return right >= wantPairs && right > wrong
}

// page turns a virtual address into a guest-physical one.
func (m *Memory) page(guest Paging, gva uint64) (gpa uint64, ok bool) {
	e, err := guest.Translate(m, gva)
	return e.Phys + gva - e.Addr, err == nil
}

// runs returns the runs of those pages whose GPA the guest's tables tell, so far
// as these are in slots that are known. A delta that few pages have is out of
// a table that was read in a wrong place.
func (m *Memory) runs(guest Paging, ps []pair) (runs []run) {
	pages := make(map[uint64]int) // by delta
	var found []pair              // GPA and HVA
	for _, p := range ps {
		if gpa, ok := m.page(guest, p.addr); ok && gpa < maxGPA {
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
