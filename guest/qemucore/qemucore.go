// Package qemucore reads and adds to a core of the process that ran a guest
// (QEMU's, by gcore or systemd-coredump): whose process it is, the guest's
// memory in it, and the vCPUs' state in notes of its own.
package qemucore

import (
	"debug/elf"
	"encoding/binary"
	"iter"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// GuestMemory is a guest's physical memory in a core of the process that ran
// it: the memory slots say where in the process's address space it lies. It is
// a [guest.Source].
type GuestMemory struct {
	core  physmem.Memory // by virtual address
	slots []guest.Slot
}

// NewGuestMemory takes the core's memory by virtual address
// (vmcore.ProcessMemory) and the slots: as the host's dump tells them, or as
// the core's own VMCS notes have them. They must be sorted and disjoint.
func NewGuestMemory(core physmem.Memory, slots []guest.Slot) *GuestMemory {
	return &GuestMemory{core, slots}
}

// Slots implements [guest.Source].
func (m *GuestMemory) Slots() []guest.Slot { return m.slots }

// ReadPhys implements [physmem.Reader]. The error wraps [guest.ErrNotMapped]
// outside of the slots, or says why the core does not have the memory.
func (m *GuestMemory) ReadPhys(p []byte, gpa uint64) (n int, err error) {
	for n < len(p) {
		at := gpa + uint64(n)
		i := sort.Search(len(m.slots), func(i int) bool { return at < m.slots[i].GPA+m.slots[i].Size })
		if i == len(m.slots) || at < m.slots[i].GPA {
			return n, errors.Wrapf(guest.ErrNotMapped, "guest-physical address %#x", at)
		}
		s := m.slots[i]
		part := p[n:]
		if left := s.Size - (at - s.GPA); uint64(len(part)) > left {
			part = part[:left]
		}
		k, err := m.core.ReadPhys(part, at-s.GPA+s.HVA)
		n += k
		if k < len(part) {
			return n, errors.Wrapf(err, "guest-physical address %#x", gpa+uint64(n))
		}
	}
	return n, nil
}

// Ranges implements [guest.Source]: the whole pages of the slots that the core
// has.
func (m *GuestMemory) Ranges() iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, s := range m.slots {
			for r := range m.core.Ranges() {
				r = r.Intersect(physmem.Range{Addr: s.HVA, Size: s.Size})
				r.Addr += s.GPA - s.HVA
				if !yield(r.Pages(x86.PageSize)) {
					return
				}
			}
		}
	})
}

// A Thread is a thread of a process, by its NT_PRSTATUS.
type Thread struct {
	PID    uint32 // pr_pid: the thread's
	FSBase uint64
}

const (
	prStatusSize = 336 // of struct elf_prstatus of x86-64
	prPIDOff     = 32  // pr_pid
	prFSBaseOff  = 280 // fs_base in pr_reg
)

// Threads returns the threads of a process's core, of x86-64; at most 65,536.
func Threads(s *elfnote.Segment) []Thread {
	var ts []Thread
	for i, e := range s.Notes {
		if e.Name != "CORE" || e.Type != uint32(elf.NT_PRSTATUS) || e.DescSize != prStatusSize {
			continue
		}
		n, err := s.Note(i, prStatusSize)
		if err != nil {
			continue
		}
		ts = append(ts, Thread{
			PID:    binary.LittleEndian.Uint32(n.Desc[prPIDOff:]),
			FSBase: binary.LittleEndian.Uint64(n.Desc[prFSBaseOff:]),
		})
	}
	return ts
}
