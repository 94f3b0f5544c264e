package guest

import (
	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// A shadowMemory locates the memory of a guest without EPT.
type shadowMemory struct {
	// Paging is by KVM's tables, as the VMCS has it.
	Paging paging
	// Guest is the guest's own paging: by the CR3 that KVM keeps for it, and by
	// CR0 and CR4 as the guest sees them.
	Guest paging
	// HostCR3 and HostCR4 are HOST_CR3 and HOST_CR4.
	HostCR3, HostCR4 uint64
}

// shadowOf locates the memory of a vCPU's guest by its VMCS and its registers.
// It returns false if paging is on and these do not have the guest's CR3.
func shadowOf(v *vmcs.VMCS, r *Registers) (shadowMemory, bool) {
	s := shadowMemory{Paging: pagingOf(v), Guest: r.paging()}
	s.HostCR3, _ = v.Read(vmcs.HostCR3)
	s.HostCR4, _ = v.Read(vmcs.HostCR4)
	return s, r.CR0.Known() && r.CR4.Known() && (r.CR3.Known() || s.Guest.mode() == noPaging)
}

// openShadow opens the memory of a guest without EPT. It fails with [ErrNoEPT]
// if no memory is found that is proven to be the guest's.
//
// Nothing in such a VMCS leads to guest-physical memory; package infer tells
// how it is found.
func openShadow(host physmem.Reader, c shadowMemory) (*Physical, error) {
	// While the guest's paging is off these tables map guest-physical
	// addresses, which have no sign extension.
	real := c.Guest.mode() == noPaging
	format := &x86.Format{Name: "shadow page table", Width: 8, Decode: x86.KVMPages(0)}
	switch c.Paging.mode() {
	case pagingPAE: // of KVM's highest table, a page, four entries are used
		format.Levels, format.Root = 3, 4
	case paging4:
		format.Levels, format.Signed = 4, !real
	case paging5:
		format.Levels, format.Signed = 5, !real
	default:
		return nil, ErrNoEPT // KVM has no such tables
	}
	shadow := x86.NewTables(host, format, c.Paging.CR3&x86.AddrMask)
	m := &Physical{host: host, proc: NewProcess(host, c.HostCR3, c.HostCR4)}
	if real {
		m.ept = shadow
		if m.slots = appendSlots(nil, infer.Slots(shadow, m.proc.reopen)); len(m.slots) == 0 {
			return nil, ErrNoEPT
		}
		return m, nil
	}
	translate := func(gva uint64) (gpa uint64, ok bool) {
		e, err := c.Guest.translate(m, gva)
		return e.Phys + gva - e.Addr, err == nil
	}
	paging := func(slots []infer.Slot) infer.Paging {
		m.slots = appendSlots(m.slots[:0], slots)
		return translate
	}
	s := infer.Shadow{Tables: shadow, Process: m.proc, CR3: c.Guest.CR3 & x86.AddrMask, Paging: paging}
	slots, ok := s.Slots()
	if !ok {
		return nil, ErrNoEPT
	}
	m.slots = appendSlots(nil, slots)
	return m, nil
}
