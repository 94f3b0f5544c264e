package qemucore

import (
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A Match is the evidence that a core belongs to the process running a machine.
type Match struct {
	// CPUs of the machine were compared; Threads of them have the HOST_FS_BASE
	// of one of the core's threads. The C library's thread control block is
	// there, at an address that is random and the thread's own.
	CPUs, Threads int
	// Pages that HOST_CR3 maps for the process to write to were looked up in
	// the core; Covered are in one of its PT_LOADs. Read-only pages do not
	// count: gdb and the kernel leave out what is unchanged in its file.
	Pages, Covered uint64
	// Compared pages, not zero, were in both; Same are equal. Some differ if
	// the core was not written at the moment of the crash.
	Compared, Same uint64
	// GuestPages of the machine's memory that the process has were looked up in
	// the core; GuestCovered are in it. Identity does not depend on them.
	GuestPages, GuestCovered uint64
}

// Belongs reports whether the core is certainly that of the machine's process:
// all vCPUs ran on threads of it, and memory does not contradict; or, without
// the threads, memory is equal. How much of the process's memory the core has
// depends on coredump_filter, and is no evidence.
func (m Match) Belongs() bool {
	if m.CPUs > 0 && m.Threads == m.CPUs {
		return (m.Covered > 0 || m.Pages == 0) && (m.Compared < minCompared || m.Same > m.Compared/10)
	}
	return m.Compared >= minCompared && m.Same >= m.Compared-m.Compared/10 && m.Covered >= m.Pages/2
}

// LacksGuest reports whether the core has next to nothing of the machine's
// memory, though the process had it.
func (m Match) LacksGuest() bool { return m.GuestPages > 0 && m.GuestCovered <= m.GuestPages/20 }

const (
	// matchPages bounds the pages that are looked up, and compared.
	matchPages = 1 << 14
	// minCompared is how many pages compared tell something.
	minCompared = 8
	// largeProbes is how many pages of a large page are looked up.
	largeProbes = 8
)

// Compare compares a process's core, its memory by virtual address and its
// threads, with the process that runs the machine in the host's dump. The
// machine's memory, in the slots, is looked up but not compared: QEMU can be
// told to have it left out of its cores (-machine dump-guest-core=off).
func Compare(m *guest.Machine, core physmem.Memory, threads []Thread, slots []guest.Slot) Match {
	var match Match
	for _, v := range m.VCPUs {
		match.CPUs++
		if _, ok := ThreadOf(v, threads); ok {
			match.Threads++
		}
	}
	proc, host := m.AddressSpace()
	if proc == nil {
		return match
	}
	looked := uint64(0)
	for page, err := range proc.Mappings() {
		if err != nil {
			continue
		}
		for off := uint64(0); off < page.Size; off += max(x86.PageSize, page.Size/largeProbes) {
			ofGuest := inSlot(slots, page.Addr+off)
			switch {
			case ofGuest && match.GuestPages < matchPages:
				match.guestPage(core, page.Addr+off)
			case !ofGuest && looked < matchPages:
				looked++
				match.page(host, core, page, off)
			case match.GuestPages == matchPages && looked == matchPages:
				return match // tables can map 8 TiB, and hostile ones do
			}
		}
	}
	return match
}

// guestPage looks up a page of the machine's memory.
func (m *Match) guestPage(core physmem.Memory, hva uint64) {
	var b [1]byte
	m.GuestPages++
	if n, _ := core.ReadPhys(b[:], hva); n == len(b) {
		m.GuestCovered++
	}
}

// page compares a page of the process's own.
func (m *Match) page(host physmem.Reader, core physmem.Memory, page guest.Mapping, off uint64) {
	var a, b [x86.PageSize]byte
	written := page.Entry&x86.Write != 0
	if written {
		m.Pages++
	}
	n, err := core.ReadPhys(a[:], page.Addr+off)
	if errors.Is(err, vmcore.ErrNoMemory) && n == 0 {
		return
	}
	if written {
		m.Covered++
	}
	if n < x86.PageSize || a == [x86.PageSize]byte{} {
		return
	}
	if n, _ := host.ReadPhys(b[:], page.Phys+off); n < x86.PageSize {
		return
	}
	m.Compared++
	if a == b {
		m.Same++
	}
}

// inSlot reports whether an address of the process is the guest's memory.
func inSlot(slots []guest.Slot, hva uint64) bool {
	return slices.ContainsFunc(slots, func(s guest.Slot) bool { return hva-s.HVA < s.Size })
}

// ThreadOf finds the thread that ran a vCPU last: the only one with its
// HOST_FS_BASE or, without a VMCS, the thread that KVM names.
func ThreadOf(v *guest.VCPU, threads []Thread) (t Thread, ok bool) {
	fs, has := v.Read(vmcs.HostFSBase)
	has = has && fs != 0
	for _, u := range threads {
		if has && u.FSBase == fs || !v.HasVMCS() && v.TID != 0 && u.PID == uint32(v.TID) {
			if ok {
				return Thread{}, false
			}
			t, ok = u, true
		}
	}
	return t, ok
}
