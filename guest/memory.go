package guest

import (
	"sort"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// A Slot is guest-physical memory that lies in one piece in the address space
// of the process that runs the guest, as KVM_SET_USER_MEMORY_REGION made it.
type Slot struct {
	GPA, HVA uint64 // of the first byte
	Size     uint64 // bytes
	// Pages counts the 4 KiB pages that EPT maps to where the process has them:
	// the slot was inferred from these, and verified by them. It is 0 for RAM
	// from 0 on that was placed by the memory above it, and for KVM's own slots.
	Pages uint64
	// Space, ID and Flags are of KVM's own slots: the address space (1 is that
	// of system management mode), its number, and KVM_MEM_LOG_DIRTY_PAGES (1),
	// KVM_MEM_READONLY (2)...
	Space, ID int
	Flags     uint32
}

// appendSlots appends slots that were inferred.
func appendSlots(slots []Slot, inferred []infer.Slot) []Slot {
	for _, s := range inferred {
		slots = append(slots, Slot{GPA: s.GPA, HVA: s.HVA, Size: s.Size, Pages: s.Pages})
	}
	return slots
}

// A memoryConfig locates a guest's memory; its fields come from one of the
// guest's VMCSs.
type memoryConfig struct {
	EPTP      uint64 // EPT_POINTER; 0 without EPT
	ModeBased bool   // see newEPT
	// HostCR3 and HostCR4 are HOST_CR3 and HOST_CR4. Where HostCR3 is 0
	// memory is read by EPT alone.
	HostCR3, HostCR4 uint64
}

// Physical is a guest's physical memory. It is a [physmem.Reader] whose
// addresses are guest-physical, and safe for concurrent use if the host's is.
//
// What EPT maps is read where EPT says, and only what it does not map is read
// through the process. It holds some 600 KiB of tables at most.
type Physical struct {
	host  physmem.Reader
	ept   *x86.Tables // or NPT, or shadow page tables; nil: by the process alone
	proc  *Process    // nil: by EPT alone
	slots []Slot      // by rising GPA, disjoint
	// infer, if not nil, infers the slots and returns them.
	infer func() []Slot
}

// openPhysical opens the guest's memory in the host's. It infers the memory
// slots when something first needs them, which takes a few passes over EPT and
// the process's tables. It fails with [ErrNoEPT] if EPTP is 0, and with
// [ErrBadEPTP]. Broken entries of the tables are no error here.
func openPhysical(host physmem.Reader, c memoryConfig) (*Physical, error) {
	if c.EPTP == 0 {
		return nil, ErrNoEPT
	}
	ept, err := newEPT(host, x86.EPTP(c.EPTP), c.ModeBased)
	if err != nil {
		return nil, err
	}
	m := &Physical{host: host, ept: ept}
	if c.HostCR3 != 0 {
		m.proc = NewProcess(host, c.HostCR3, c.HostCR4)
		m.infer = sync.OnceValue(func() []Slot { return appendSlots(nil, infer.Slots(ept, m.proc.reopen)) })
	}
	return m, nil
}

// Slots are the memory slots, by rising guest-physical address. If they must be
// inferred, the first call takes a while.
func (m *Physical) Slots() []Slot {
	if m.infer != nil {
		return m.infer()
	}
	return m.slots
}

// slot returns the first slot that ends after gpa.
func (m *Physical) slot(gpa uint64) (Slot, bool) {
	slots := m.Slots()
	i := sort.Search(len(slots), func(i int) bool { return gpa < slots[i].GPA+slots[i].Size })
	if i == len(slots) {
		return Slot{}, false
	}
	return slots[i], true
}

// Translate finds the host's memory that gpa is in. The error wraps
// [ErrNotMapped], [ErrNotPresent], [ErrSwapped], [ErrMMIO] or [ErrReserved], or
// is the reader's error for a table; the mapping is then the stretch it holds
// for.
func (m *Physical) Translate(gpa uint64) (Mapping, error) {
	e, err := Mapping{Size: x86.EPTEnd}, ErrNotMapped
	switch {
	case gpa >= x86.EPTEnd:
		return Mapping{Addr: x86.EPTEnd, Size: 1<<64 - x86.EPTEnd}, err
	case m.ept != nil:
		if e, err = m.ept.Translate(gpa); err == ErrNotCanonical { // beyond what the tables can map
			err = ErrNotMapped
		}
	}
	if err == nil || errors.Is(err, ErrMMIO) {
		return e, err
	}
	e.Size = min(e.Size, x86.EPTEnd-e.Addr)
	s, ok := m.slot(gpa)
	switch {
	case !ok:
		return e, err
	case gpa < s.GPA:
		return clip(e, e.Addr, s.GPA), err
	}
	user, err := m.proc.Translate(gpa - s.GPA + s.HVA)
	user.Addr += s.GPA - s.HVA
	if err == ErrNotMapped {
		err = ErrNotPresent
	}
	return clip(user, max(s.GPA, e.Addr), min(s.GPA+s.Size, e.Addr+e.Size)), err
}

// clip returns the part of a mapping from lo up to hi, which it overlaps. It
// may begin below 0: a large page of the process that a slot begins in.
func clip(m Mapping, lo, hi uint64) Mapping {
	end := min(m.Addr+m.Size, hi)
	if skip := lo - m.Addr; int64(skip) > 0 {
		m.Addr, m.Phys = lo, m.Phys+skip
	}
	m.Size = end - m.Addr
	return m
}

// ReadPhys implements [physmem.Reader]. It reads as far as it can; the error is
// an [*AddressError] with the error of [Physical.Translate] or, if the page
// itself is not in the dump, of the host's reader.
func (m *Physical) ReadPhys(p []byte, gpa uint64) (n int, err error) {
	for n < len(p) {
		at := gpa + uint64(n)
		phys, size, err := m.stretch(at, uint64(len(p)-n))
		if err != nil {
			return n, &AddressError{"guest-physical", at, err}
		}
		k, err := m.host.ReadPhys(p[n:n+int(size)], phys)
		n += k
		if uint64(k) < size {
			return n, &AddressError{"guest-physical", gpa + uint64(n), err}
		}
	}
	return n, nil
}

// stretch returns the host's address of gpa, and how many bytes from there on
// are the guest's in one piece, no more than limit.
func (m *Physical) stretch(gpa, limit uint64) (phys, size uint64, err error) {
	e, err := m.Translate(gpa)
	if err != nil {
		return 0, 0, err
	}
	phys = e.Phys + gpa - e.Addr
	size = e.Size - (gpa - e.Addr)
	for size < limit {
		e, err := m.Translate(gpa + size)
		if err != nil || e.Phys+(gpa+size-e.Addr) != phys+size {
			break
		}
		size += e.Size - (gpa + size - e.Addr)
	}
	return phys, min(size, limit), nil
}
