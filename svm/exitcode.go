package svm

import (
	"fmt"
	"strings"

	"vmcsnote/internal/x86"
)

// A codeRange names exit codes from first on; "-" is for one without a name.
type codeRange struct {
	first uint64
	names string
}

// exitCodes are the exit codes as Linux names them (SVM_EXIT_… in
// arch/x86/include/uapi/asm/svm.h); those it has no name for are named after
// the APM (volume 2, appendix C).
var exitCodes = []codeRange{
	{0x60, "INTR NMI SMI INIT VINTR CR0_SEL_WRITE IDTR_READ GDTR_READ LDTR_READ TR_READ IDTR_WRITE GDTR_WRITE LDTR_WRITE TR_WRITE " +
		"RDTSC RDPMC PUSHF POPF CPUID RSM IRET SWINT INVD PAUSE HLT INVLPG INVLPGA IOIO MSR TASK_SWITCH FERR_FREEZE SHUTDOWN " +
		"VMRUN VMMCALL VMLOAD VMSAVE STGI CLGI SKINIT RDTSCP ICEBP WBINVD MONITOR MWAIT MWAIT_COND XSETBV RDPRU EFER_WRITE_TRAP"},
	{0xa0, "INVLPGB INVLPGB_ILLEGAL INVPCID MCOMMIT TLBSYNC BUS_LOCK IDLE_HLT"},
	{0x400, "NPF AVIC_INCOMPLETE_IPI AVIC_UNACCELERATED_ACCESS VMGEXIT"},
	{0xf0000000, "SW"},
}

// invalidCodes are -1, -2 and so on.
var invalidCodes = [...]string{"INVALID", "BUSY", "IDLE_REQUIRED", "INVALID_PMC"}

// exitCodeName names an exit code. One without a name is its number.
func exitCodeName(code uint64) string {
	// Until Linux 6.x only the lower half is written. VMRUN fails with -1,
	// which is 64 bits wide.
	if n := -code - 1; n < uint64(len(invalidCodes)) {
		return invalidCodes[n]
	}
	if n := uint64(-uint32(code)) - 1; code>>32 == 0 && n < uint64(len(invalidCodes)) {
		return invalidCodes[n]
	}
	for _, r := range exitCodes {
		if names := strings.Fields(r.names); code >= r.first && code-r.first < uint64(len(names)) {
			return names[code-r.first]
		}
	}
	for _, r := range []struct {
		first uint64
		name  string
	}{{0x00, "READ_CR%d"}, {0x10, "WRITE_CR%d"}, {0x20, "READ_DR%d"}, {0x30, "WRITE_DR%d"}, {0x90, "CR%d_WRITE_TRAP"}} {
		if code >= r.first && code-r.first < 16 {
			return fmt.Sprintf(r.name, code-r.first)
		}
	}
	if code >= 0x40 && code < 0x60 {
		if name, ok := x86.ExceptionNames.Name(int(code - 0x40)); ok {
			return "EXCEPTION_" + name
		}
		return fmt.Sprintf("EXCEPTION_%d", code-0x40)
	}
	return fmt.Sprintf("%#x", code)
}

// ExitReason returns in words why the guest was left: the exit code's name and,
// for some, what the processor has stored with it.
func (v *VMCB) ExitReason() string {
	name := exitCodeName(v.Read(ExitCode))
	info1, info2 := v.Read(ExitInfo1), v.Read(ExitInfo2)
	switch name {
	case "NPF", "EXCEPTION_PF":
		return fmt.Sprintf("%s at %#x (%s)", name, info2, strings.Join(faultNames.Of(info1), ", "))
	case "IOIO":
		direction := "out"
		if info1&1 != 0 {
			direction = "in"
		}
		return fmt.Sprintf("IOIO %s %#x", direction, info1>>16&0xffff)
	case "MSR":
		if info1 != 0 {
			return "MSR write"
		}
		return "MSR read"
	}
	return name
}

// faultNames are the bits of a page fault's error code, and of exit_info_1
// after a nested page fault.
const faultNames x86.BitNames = "0 present,write,user,reserved,fetch,PK,SS;31 RMP,final,page table;35 encrypted,size mismatch,VMPL"

// NeverRan reports whether the virtual CPU has never entered the guest: the
// processor refuses ASID 0, and KVM gives another one before the first entry. A
// VMCB fresh from the host's memory has zeros where an exit would be described.
func (v *VMCB) NeverRan() bool {
	exit := v.Read(ExitCode) | v.Read(ExitInfo1) | v.Read(ExitInfo2) | v.Read(NextRIP)
	return v.Read(ASID) == 0 || exit == 0 && v.Read(RFLAGS) == 2 && v.Read(RIP) == 0xfff0
}

// eventTypes are those of bits 10:8 of event_inj and exit_int_info.
var eventTypes = [...]string{"external interrupt", "type 1", "NMI", "exception", "software interrupt", "type 5", "type 6", "type 7"}

// event puts event_inj and exit_int_info into words, such as "external
// interrupt 0xec"; it is empty if the field is not valid (bit 31).
func event(v uint32) string {
	if v>>31 == 0 {
		return ""
	}
	s := fmt.Sprintf("%s %#x", eventTypes[v>>8&7], v&0xff)
	if v&(1<<11) != 0 {
		s += ", error code"
	}
	return s
}
