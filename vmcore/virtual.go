package vmcore

import (
	"debug/elf"

	"vmcsnote/physmem"
)

// Progs returns the program headers of an ELF core, in file order; nil for
// other dumps. It must not be changed.
func Progs(c Core) []elf.ProgHeader {
	if e, ok := c.Plain().(elfCore); ok {
		return e.Progs
	}
	return nil
}

// ProcessMemory returns the memory of a process's core by virtual address: its
// addresses are p_vaddr. What PT_LOADs claim but the core does not hold (file
// mappings, by the kernel's coredump_filter) is [ErrExcluded]. It is false if c
// is not an ELF core, or if it is the core of a machine, whose PT_LOADs have
// physical addresses.
func ProcessMemory(c Core) (physmem.Memory, bool) {
	if e, ok := c.Plain().(elfCore); ok {
		return e.Virtual()
	}
	return nil, false
}

// DirectMaps returns the virtual addresses at which the kernel of a dump may
// have physical address 0: p_vaddr - p_paddr of the PT_LOADs, each once, that
// of most memory first. On x86 one of them is that of the kernel's text. It is
// empty if the dump does not tell.
func DirectMaps(c Core) []uint64 {
	var m any = c.Plain()
	if i, ok := m.(*image); ok {
		m = i.memory
	}
	if e, ok := m.(interface{ DirectMaps() []uint64 }); ok {
		return e.DirectMaps()
	}
	return nil
}
