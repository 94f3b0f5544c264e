package guest

import (
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A Match is what speaks for it that a process's core is of the process that
// runs a machine.
type Match struct {
	// CPUs of the machine were compared; Threads of them have the HOST_FS_BASE
	// of one of the core's threads. The C library's thread control block is
	// there, at an address that is random and the thread's own.
	CPUs, Threads int
	// Pages that HOST_CR3 maps for the process were looked up in the core;
	// Covered are in one of its PT_LOADs. Address spaces are random as well.
	Pages, Covered uint64
	// Compared pages, not zero, were in both; Same are equal. Some differ if the
	// core was not written at the moment of the crash.
	Compared, Same uint64
}

// Belongs reports whether the core is the machine's process's beyond doubt.
// Where the host's dump leaves out the memory of processes, as makedumpfile -d
// 31 does, page tables and threads must do.
func (m Match) Belongs() bool {
	if m.Pages == 0 || m.Covered < m.Pages-m.Pages/20 {
		return false
	}
	if m.Compared >= minCompared && m.Same >= m.Compared-m.Compared/10 {
		return true
	}
	return m.CPUs > 0 && m.Threads == m.CPUs && (m.Compared < minCompared || m.Same > m.Compared/10)
}

const (
	// matchPages bounds the pages that are looked up, and compared.
	matchPages = 1 << 14
	// minCompared is how many pages compared tell something.
	minCompared = 8
)

// MatchProcess compares a process's core, its memory by virtual address and its
// threads, with the process that runs the machine in the host's dump. The
// machine's memory, in the slots, is left aside: QEMU can be told to have it
// left out of its cores (-machine dump-guest-core=off).
func (m *Machine) MatchProcess(host Reader, core vmcore.Memory, threads []Thread, slots []Slot) Match {
	var match Match
	for _, c := range m.CPUs {
		fs, ok := c.Field("HOST_FS_BASE")
		match.CPUs++
		if _, found := ThreadOf(&c.VMCS, threads); ok && fs != 0 && found {
			match.Threads++
		}
	}
	cr3, ok := m.CPUs[0].Field("HOST_CR3")
	if !ok {
		return match
	}
	cr4, _ := m.CPUs[0].Field("HOST_CR4")
	p := NewProcess(host, cr3, cr4)
	var a, b [pageSize]byte
	for page, err := range p.Mappings() {
		if err != nil || inSlot(slots, page.Addr) {
			continue
		}
		if match.Pages == matchPages {
			break
		}
		match.Pages++
		n, err := core.ReadPhys(a[:], page.Addr)
		if errors.Is(err, vmcore.ErrNoMemory) {
			continue
		}
		match.Covered++
		if n < pageSize || a == [pageSize]byte{} {
			continue
		}
		if n, _ := host.ReadPhys(b[:], page.Phys); n < pageSize {
			continue
		}
		match.Compared++
		if a == b {
			match.Same++
		}
	}
	return match
}

// inSlot reports whether an address of the process is the guest's memory.
func inSlot(slots []Slot, hva uint64) bool {
	return slices.ContainsFunc(slots, func(s Slot) bool { return hva-s.HVA < s.Size })
}

// ThreadOf finds the thread that ran a vCPU last, by its HOST_FS_BASE, if it is
// the only one with that.
func ThreadOf(v *vmcs.VMCS, threads []Thread) (t Thread, ok bool) {
	fs, has := v.Field("HOST_FS_BASE")
	for _, u := range threads {
		if has && fs != 0 && u.FSBase == fs {
			if ok {
				return Thread{}, false
			}
			t, ok = u, true
		}
	}
	return t, ok
}
