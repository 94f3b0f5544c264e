package guest

import (
	"encoding/binary"
	"iter"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
)

// ProcessMemory is a guest's physical memory in a core of the process that ran
// it (QEMU's, by gcore or systemd-coredump): the memory slots say where in the
// process's address space it lies. It is a [Source].
type ProcessMemory struct {
	core  physmem.Memory // by virtual address
	slots []Slot
}

// NewProcessMemory takes the core's memory by virtual address ([vmcore.ProcessMemory])
// and the slots: as inferred from the host's dump ([Memory.Slots]), or as the
// core's own VMCS notes have them. They must be sorted and disjoint.
func NewProcessMemory(core physmem.Memory, slots []Slot) *ProcessMemory {
	return &ProcessMemory{core, slots}
}

// Slots implements [Source].
func (m *ProcessMemory) Slots() []Slot { return m.slots }

// ReadPhys implements [physmem.Reader]. The error wraps [ErrNotMapped] outside of the
// slots, or says why the core does not have the memory.
func (m *ProcessMemory) ReadPhys(p []byte, gpa uint64) (n int, err error) {
	for n < len(p) {
		at := gpa + uint64(n)
		s, ok := (&Memory{slots: m.slots}).slot(at)
		if !ok || at < s.GPA {
			return n, errors.Wrapf(ErrNotMapped, "guest-physical address %#x", at)
		}
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

// Ranges implements [Source]: the whole pages of the slots that the core has.
func (m *ProcessMemory) Ranges() iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, s := range m.slots {
			for r := range m.core.Ranges() {
				r = r.Intersect(physmem.Range{Addr: s.HVA, Size: s.Size})
				r.Addr += s.GPA - s.HVA
				if !yield(r.Pages(pageSize)) {
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

// Threads returns the threads of a process's core, of x86-64; at most 65,536.
func Threads(s *elfnote.Segment) []Thread {
	var ts []Thread
	for i, e := range s.Notes {
		if e.Name != nameCore || e.Type != ntPRStatus || e.DescSize != prStatusSize {
			continue
		}
		n, err := s.Note(i, prStatusSize)
		if err != nil {
			continue
		}
		ts = append(ts, Thread{
			PID:    binary.LittleEndian.Uint32(n.Desc[32:]),
			FSBase: binary.LittleEndian.Uint64(n.Desc[prRegsOff+21*8:]),
		})
	}
	return ts
}
