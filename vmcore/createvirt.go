package vmcore

import (
	"debug/elf"
	"slices"
	"sync"

	"vmcsnote/physmem"
)

// Virtual gives the memory of a process's core by virtual address: its ReadPhys
// and Ranges go by p_vaddr. What PT_LOADs claim but the core does not hold
// (file mappings, by the kernel's coredump_filter) is [ErrExcluded]. It is false
// for what is no ELF core, and for one whose PT_LOADs say where in physical
// memory they were: that of a machine.
func Virtual(c Core) (physmem.Memory, bool) {
	e, ok := c.Plain().(*ELF)
	if !ok || !e.unplaced() {
		return nil, false
	}
	v := &ELF{Header: e.Header, Progs: slices.Clone(e.Progs), Size: e.Size, r: e.r}
	v.phys = sync.OnceValue(v.mapPhys)
	for i := range v.Progs {
		v.Progs[i].Paddr = v.Progs[i].Vaddr
	}
	return v, true
}

// DirectMaps gives the virtual addresses at which the kernel of a dump may have
// physical address 0: p_vaddr - p_paddr of the PT_LOADs, each once, the one of
// most memory first. On x86 one of them is that of the kernel's text. It is
// empty where the dump does not say.
func DirectMaps(c Core) []uint64 {
	switch c := c.Plain().(type) {
	case *Image:
		if e, ok := c.Memory.(*ELF); ok {
			return DirectMaps(e)
		}
	case *ELF:
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
		slices.SortStableFunc(bases, func(a, b uint64) int {
			switch {
			case size[a] > size[b]:
				return -1
			case size[a] < size[b]:
				return 1
			}
			return 0
		})
		return bases[:min(len(bases), maxDirectMaps)]
	}
	return nil
}

// maxDirectMaps bounds what DirectMaps gives; the kernel writes two.
const maxDirectMaps = 16
