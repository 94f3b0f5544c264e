package elfcore

import (
	"debug/elf"
	"slices"

	"vmcsnote/elfnote"
)

// unplaced reports whether the PT_LOADs say where in virtual memory they were,
// and none of them where in physical memory.
func (c *ELF) unplaced() bool {
	return slices.ContainsFunc(c.Progs, func(p elf.ProgHeader) bool { return p.Type == elf.PT_LOAD && p.Vaddr != 0 }) &&
		!slices.ContainsFunc(c.Progs, func(p elf.ProgHeader) bool { return p.Type == elf.PT_LOAD && p.Paddr != 0 })
}

// Process reports whether the core is a process's, by the kernel, gcore or
// systemd-coredump, and not a machine's. gdb, eu-stack and readelf read those,
// not crash, makedumpfile, libkdumpfile and drgn's vmcore reader.
func (c *ELF) Process() bool {
	return c.unplaced() && (c.notes == nil || !slices.ContainsFunc(c.notes.Notes, func(n elfnote.Entry) bool {
		return n.Name == elfnote.VMCoreInfo || n.Name == "VMCOREINFO_XEN" || n.Name == "QEMU"
	}))
}
