package elfcore

import (
	"debug/elf"
	"slices"
	"sort"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/physmap"
)

// Virtual returns the memory of a process's core by virtual address; false for
// a machine's core.
func (c *ELF) Virtual() (physmem.Memory, bool) {
	if !c.unplaced() {
		return nil, false
	}
	progs := slices.Clone(c.Progs)
	for i := range progs {
		progs[i].Paddr = progs[i].Vaddr
	}
	return physmap.New(c.R, c.Size, progs), true
}

// DirectMaps returns p_vaddr - p_paddr of the PT_LOADs with a kernel's p_vaddr,
// each once, that of most memory first.
func (c *ELF) DirectMaps() []uint64 {
	size := make(map[uint64]uint64)
	var bases []uint64
	for _, p := range c.Progs {
		base := p.Vaddr - p.Paddr
		if p.Type != elf.PT_LOAD || p.Vaddr == 0 || base>>63 == 0 {
			continue
		}
		if size[base] == 0 {
			bases = append(bases, base)
		}
		size[base] += max(1, p.Memsz)
	}
	sort.SliceStable(bases, func(i, j int) bool { return size[bases[i]] > size[bases[j]] })
	return bases[:min(len(bases), maxDirectMaps)]
}

// maxDirectMaps bounds what DirectMaps returns; the kernel writes two.
const maxDirectMaps = 16
