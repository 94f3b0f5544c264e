package elfcore

import (
	"debug/elf"

	"vmcsnote/vmcore/internal/plan"
)

// Granule returns the unit in which offsets move: the page size of the machine
// that wrote the core, by p_align of its PT_LOADs (the kernel's core files) or
// by VMCOREINFO (/proc/vmcore has p_align 0), and at least [plan.PageSize]. So
// p_offset stays congruent to p_vaddr for programs that map the file. And a
// removal recognises the zeros that an injection added, because no writer
// leaves a whole page of its machine after the notes.
func (c *ELF) Granule() (int64, error) {
	page := uint64(plan.PageSize)
	larger := func(n uint64) {
		if n&(n-1) == 0 && n <= maxGranule {
			page = max(page, n)
		}
	}
	for _, p := range c.Progs {
		if p.Type == elf.PT_LOAD {
			larger(p.Align)
		}
	}
	info, err := plan.KernelPage(c.notes)
	if err != nil {
		return 0, plan.Rebase(err, c.NotesOff())
	}
	larger(uint64(info))
	return int64(page), nil
}

// maxGranule bounds the page size that is believed. The largest in Linux is 256
// KiB (Hexagon: 1 MiB).
const maxGranule = 2 << 20
