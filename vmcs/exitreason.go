package vmcs

import (
	"strconv"
	"strings"

	"vmcsnote/internal/x86"
)

// exitReasons are the basic exit reasons from 0 on, as Linux names them
// (VMX_EXIT_REASONS in arch/x86/include/uapi/asm/vmx.h); those it has no name
// for are named after the SDM (volume 3, appendix C).
const exitReasons = "EXCEPTION_NMI EXTERNAL_INTERRUPT TRIPLE_FAULT INIT_SIGNAL SIPI_SIGNAL IO_SMI OTHER_SMI INTERRUPT_WINDOW NMI_WINDOW " +
	"TASK_SWITCH CPUID GETSEC HLT INVD INVLPG RDPMC RDTSC RSM VMCALL VMCLEAR VMLAUNCH VMPTRLD VMPTRST VMREAD VMRESUME VMWRITE " +
	"VMOFF VMON CR_ACCESS DR_ACCESS IO_INSTRUCTION MSR_READ MSR_WRITE INVALID_STATE MSR_LOAD_FAIL - MWAIT_INSTRUCTION " +
	"MONITOR_TRAP_FLAG - MONITOR_INSTRUCTION PAUSE_INSTRUCTION MCE_DURING_VMENTRY - TPR_BELOW_THRESHOLD APIC_ACCESS EOI_INDUCED " +
	"GDTR_IDTR LDTR_TR EPT_VIOLATION EPT_MISCONFIG INVEPT RDTSCP PREEMPTION_TIMER INVVPID WBINVD XSETBV APIC_WRITE RDRAND INVPCID " +
	"VMFUNC ENCLS RDSEED PML_FULL XSAVES XRSTORS PCONFIG SPP_EVENT UMWAIT TPAUSE LOADIWKEY ENCLV - ENQCMD_PASID ENQCMDS_PASID " +
	"BUS_LOCK NOTIFY SEAMCALL TDCALL RDMSRLIST WRMSRLIST URDMSR UWRMSR - - MSR_READ_IMM MSR_WRITE_IMM"

// ExitReason names what is in VM_EXIT_REASON: the basic reason (bits 15:0) in
// Linux's words, and the flags above it. A reason without a name is its number.
func ExitReason(v uint32) string {
	basic := int(v & 0xffff)
	s := strconv.Itoa(basic)
	if names := strings.Fields(exitReasons); basic < len(names) && names[basic] != "-" {
		s = names[basic]
	}
	for _, flag := range exitFlags.Of(uint64(v &^ 0xffff)) {
		s += ", " + flag
	}
	return s
}

// exitFlags are VM_EXIT_REASON's.
const exitFlags x86.BitNames = "25 shadow-stack busy,bus lock,in an enclave,pending MTF,from VMX root,-,VM entry failed"

// interruptionTypes are the values of bits 10:8 of the interruption-information
// fields.
const interruptionTypes = "external interrupt,reserved,NMI,hardware exception,software interrupt,privileged software exception,software exception,other event"

// Interruption puts VM_EXIT_INTR_INFO, IDT_VECTORING_INFO_FIELD and
// VM_ENTRY_INTR_INFO_FIELD into words, such as "external interrupt 0xec". It
// returns "" if the field is not valid (bit 31).
func Interruption(v uint32) string {
	if v>>31 == 0 {
		return ""
	}
	s := strings.Split(interruptionTypes, ",")[v>>8&7] + " 0x" + strconv.FormatUint(uint64(v&0xff), 16)
	if v&(1<<11) != 0 {
		s += ", error code"
	}
	return s
}

// ActivityState names what is in GUEST_ACTIVITY_STATE.
func ActivityState(v uint32) string {
	switch v {
	case 0:
		return "active"
	case 1:
		return "HLT"
	case 2:
		return "shutdown"
	case 3:
		return "wait-for-SIPI"
	}
	return strconv.FormatUint(uint64(v), 10)
}
