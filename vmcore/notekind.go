package vmcore

import (
	"debug/elf"
	"fmt"

	"vmcsnote/elfnote"
)

// ntVMCoreDD is NT_VMCOREDD of <linux/elf.h>: a driver's own dump, which the
// capture kernel puts before all other notes (since Linux 4.18).
const ntVMCoreDD = 0x700

// NoteKind says in words what a note is.
func NoteKind(name string, typ uint32) string {
	switch name {
	case elfnote.VMCoreInfo:
		return "the kernel's symbols, sizes and offsets"
	case elfnote.VMCSInfo:
		return "where VMCS fields lie"
	case "ERASEINFO":
		return "what makedumpfile erased"
	case "VMCOREINFO_XEN":
		return "the hypervisor's symbols, sizes and offsets"
	case "QEMU":
		return "a CPU's registers, by QEMU"
	case "VMCS": // guest.NoteName
		return "a guest's CPU, by vmcsnote inject --vmcs-from"
	case "Xen":
		return "written for Xen"
	case "LINUX":
		if typ == ntVMCoreDD {
			return "NT_VMCOREDD, a driver's own dump"
		}
	case "CORE":
		if elf.NType(typ) == elf.NT_PRSTATUS {
			return "NT_PRSTATUS, a CPU's registers"
		}
		if s := elf.NType(typ).String(); s != fmt.Sprint(typ) {
			return s
		}
	}
	return "not known to vmcsnote"
}
