package message

import (
	"debug/elf"

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
	case "VMCS": // qemucore.NoteName
		return "a guest's CPU, by vmcsnote inject --vmcs-from"
	case "VMCSNOTE":
		return "which virtual machine this was, by vmcsnote extract"
	case "Xen":
		return "written for Xen"
	}
	s, ok := noteTypes[name][typ]
	if !ok {
		return "not known to vmcsnote"
	}
	switch s {
	case "NT_PRSTATUS":
		return s + ", registers of a CPU or a thread"
	case "NT_VMCOREDD":
		return s + ", a driver's own dump"
	}
	return s
}

// noteTypes has the names of note types by the note's owner, as <linux/elf.h>,
// FreeBSD's <sys/elf_common.h> and readelf spell them.
var noteTypes = map[string]map[uint32]string{
	"CORE":  linuxNotes,
	"LINUX": linuxNotes,
	"FreeBSD": {
		uint32(elf.NT_PRSTATUS): "NT_PRSTATUS", uint32(elf.NT_FPREGSET): "NT_FPREGSET", uint32(elf.NT_PRPSINFO): "NT_PRPSINFO",
		7: "NT_THRMISC", 8: "NT_PROCSTAT_PROC", 9: "NT_PROCSTAT_FILES", 10: "NT_PROCSTAT_VMMAP", 11: "NT_PROCSTAT_GROUPS",
		12: "NT_PROCSTAT_UMASK", 13: "NT_PROCSTAT_RLIMIT", 14: "NT_PROCSTAT_OSREL", 15: "NT_PROCSTAT_PSSTRINGS",
		16: "NT_PROCSTAT_AUXV", 17: "NT_PTLWPINFO", 0x100: "NT_PPC_VMX", 0x102: "NT_PPC_VSX", 0x200: "NT_X86_SEGBASES",
		0x202: "NT_X86_XSTATE", 0x400: "NT_ARM_VFP", 0x401: "NT_ARM_TLS",
	},
	"GDB": {0xff000000: "NT_GDB_TDESC"},
	"GNU": {1: "NT_GNU_ABI_TAG", 2: "NT_GNU_HWCAP", 3: "NT_GNU_BUILD_ID", 4: "NT_GNU_GOLD_VERSION", 5: "NT_GNU_PROPERTY_TYPE_0"},
}

// linuxNotes are Linux's own, whose numbers do not depend on which of its two
// owners a note has. NT_FPREGSET is the name that debug/elf and readelf have
// for NT_PRFPREG.
var linuxNotes = map[uint32]string{
	uint32(elf.NT_PRSTATUS): "NT_PRSTATUS", uint32(elf.NT_FPREGSET): "NT_FPREGSET", uint32(elf.NT_PRPSINFO): "NT_PRPSINFO",
	4: "NT_TASKSTRUCT", 6: "NT_AUXV", 0x53494749: "NT_SIGINFO", 0x46494c45: "NT_FILE", 0x46e62b7f: "NT_PRXFPREG",

	0x100: "NT_PPC_VMX", 0x101: "NT_PPC_SPE", 0x102: "NT_PPC_VSX", 0x103: "NT_PPC_TAR", 0x104: "NT_PPC_PPR",
	0x105: "NT_PPC_DSCR", 0x106: "NT_PPC_EBB", 0x107: "NT_PPC_PMU", 0x108: "NT_PPC_TM_CGPR", 0x109: "NT_PPC_TM_CFPR",
	0x10a: "NT_PPC_TM_CVMX", 0x10b: "NT_PPC_TM_CVSX", 0x10c: "NT_PPC_TM_SPR", 0x10d: "NT_PPC_TM_CTAR",
	0x10e: "NT_PPC_TM_CPPR", 0x10f: "NT_PPC_TM_CDSCR", 0x110: "NT_PPC_PKEY", 0x111: "NT_PPC_DEXCR", 0x112: "NT_PPC_HASHKEYR",

	0x200: "NT_386_TLS", 0x201: "NT_386_IOPERM", 0x202: "NT_X86_XSTATE", 0x204: "NT_X86_SHSTK", 0x205: "NT_X86_XSAVE_LAYOUT",

	0x300: "NT_S390_HIGH_GPRS", 0x301: "NT_S390_TIMER", 0x302: "NT_S390_TODCMP", 0x303: "NT_S390_TODPREG",
	0x304: "NT_S390_CTRS", 0x305: "NT_S390_PREFIX", 0x306: "NT_S390_LAST_BREAK", 0x307: "NT_S390_SYSTEM_CALL",
	0x308: "NT_S390_TDB", 0x309: "NT_S390_VXRS_LOW", 0x30a: "NT_S390_VXRS_HIGH", 0x30b: "NT_S390_GS_CB",
	0x30c: "NT_S390_GS_BC", 0x30d: "NT_S390_RI_CB", 0x30e: "NT_S390_PV_CPU_DATA",

	0x400: "NT_ARM_VFP", 0x401: "NT_ARM_TLS", 0x402: "NT_ARM_HW_BREAK", 0x403: "NT_ARM_HW_WATCH",
	0x404: "NT_ARM_SYSTEM_CALL", 0x405: "NT_ARM_SVE", 0x406: "NT_ARM_PAC_MASK", 0x407: "NT_ARM_PACA_KEYS",
	0x408: "NT_ARM_PACG_KEYS", 0x409: "NT_ARM_TAGGED_ADDR_CTRL", 0x40a: "NT_ARM_PAC_ENABLED_KEYS", 0x40b: "NT_ARM_SSVE",
	0x40c: "NT_ARM_ZA", 0x40d: "NT_ARM_ZT", 0x40e: "NT_ARM_FPMR", 0x40f: "NT_ARM_POE", 0x410: "NT_ARM_GCS",

	0x600: "NT_ARC_V2", ntVMCoreDD: "NT_VMCOREDD", 0x800: "NT_MIPS_DSP", 0x801: "NT_MIPS_FP_MODE", 0x802: "NT_MIPS_MSA",
	0x900: "NT_RISCV_CSR", 0x901: "NT_RISCV_VECTOR", 0x902: "NT_RISCV_TAGGED_ADDR_CTRL",
	0xa00: "NT_LOONGARCH_CPUCFG", 0xa01: "NT_LOONGARCH_CSR", 0xa02: "NT_LOONGARCH_LSX", 0xa03: "NT_LOONGARCH_LASX",
	0xa04: "NT_LOONGARCH_LBT", 0xa05: "NT_LOONGARCH_HW_BREAK", 0xa06: "NT_LOONGARCH_HW_WATCH",
}
