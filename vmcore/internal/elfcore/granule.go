package elfcore

import (
	"debug/elf"

	"vmcsnote/vmcore/internal/plan"
)

// Granule returns what offsets move by multiples of: the page of the machine
// that wrote the core, by p_align of its PT_LOADs (the kernel's core files) or
// by VMCOREINFO (/proc/vmcore has p_align 0), and at least pageSize. Whoever
// maps the file finds p_offset congruent to p_vaddr as before. And since no
// writer leaves a whole page of its machine after the notes, a removal can tell
// the zeros that an injection has brought in.
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

// maxGranule bounds the pages of a machine that is believed to have larger ones
// than that. The largest that Linux has anywhere is 256 KiB (Hexagon: 1 MiB).
const maxGranule = 2 << 20
