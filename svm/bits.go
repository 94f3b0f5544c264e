package svm

import (
	"fmt"

	"vmcsnote/internal/x86"
)

// Bits of nested_ctl (APM volume 2, appendix B, offset 90h).
const (
	nestedPaging = 1 << 0
	sevEnable    = 1 << 1
	sevES        = 1 << 2
)

// fieldBits are the bits of fields that are made of them, named as in Linux's
// asm/svm.h, without the prefix.
func fieldBits(f Field) x86.BitNames {
	switch f.Offset {
	case interceptCR.Offset:
		return registerBits("CR")
	case interceptDR.Offset:
		return registerBits("DR")
	case interceptException.Offset:
		return x86.ExceptionNames
	case interceptWord3.Offset:
		return "0 INTR,NMI,SMI,INIT,VINTR,SELECTIVE_CR0,STORE_IDTR,STORE_GDTR,STORE_LDTR,STORE_TR,LOAD_IDTR,LOAD_GDTR,LOAD_LDTR,LOAD_TR," +
			"RDTSC,RDPMC,PUSHF,POPF,CPUID,RSM,IRET,INTn,INVD,PAUSE,HLT,INVLPG,INVLPGA,IOIO_PROT,MSR_PROT,TASK_SWITCH,FERR_FREEZE,SHUTDOWN"
	case interceptWord4.Offset:
		return "0 VMRUN,VMMCALL,VMLOAD,VMSAVE,STGI,CLGI,SKINIT,RDTSCP,ICEBP,WBINVD,MONITOR,MWAIT,MWAIT_COND,XSETBV,RDPRU,TRAP_EFER_WRITE," +
			"TRAP_CR0_WRITE,TRAP_CR1_WRITE,TRAP_CR2_WRITE,TRAP_CR3_WRITE,TRAP_CR4_WRITE,TRAP_CR5_WRITE,TRAP_CR6_WRITE,TRAP_CR7_WRITE," +
			"TRAP_CR8_WRITE,TRAP_CR9_WRITE,TRAP_CR10_WRITE,TRAP_CR11_WRITE,TRAP_CR12_WRITE,TRAP_CR13_WRITE,TRAP_CR14_WRITE,TRAP_CR15_WRITE"
	case interceptWord5.Offset:
		return "0 INVLPGB,INVLPGB_ILLEGAL,INVPCID,MCOMMIT,TLBSYNC,BUSLOCK,IDLE_HLT"
	case IntState.Offset:
		return "0 INTERRUPT_SHADOW,GUEST_INTERRUPT_MASK"
	case NestedCtl.Offset:
		return "0 NP_ENABLE,SEV_ENABLE,SEV_ES_ENABLE,GMET,SSS_CHECK,VTE,RO_GPT,INVLPGB_TLBSYNC;11 PML"
	case VirtExt.Offset:
		return "0 LBR_CTL_ENABLE,VIRTUAL_VMLOAD_VMSAVE_ENABLE,VIRTUAL_IBS,VIRTUAL_PMC"
	case Clean.Offset:
		return "0 INTERCEPTS,PERM_MAP,ASID,INTR,NPT,CR,DR,DT,SEG,CR2,LBR,AVIC,CET;31 HV_NESTED_ENLIGHTENMENTS"
	case SEVFeatures.Offset, SEVFeatures.Offset - 8:
		return "0 SNP_ACTIVE,VTOM,REFLECT_VC,RESTRICTED_INJECTION,ALTERNATE_INJECTION,DEBUG_SWAP,PREVENT_HOST_IBS,BTB_ISOLATION,VMPL_SSS," +
			"SECURE_TSC,VMGEXIT_PARAMETER,-,IBS_VIRTUALIZATION;14 VMSA_REG_PROTECTION,SMT_PROTECTION;63 VALID"
	case CR0.Offset:
		return x86.CR0Names
	case CR4.Offset:
		return x86.CR4Names
	case EFER.Offset:
		return x86.EFERNames
	case RFLAGS.Offset:
		return x86.RFLAGSNames
	}
	return ""
}

// registerBits are a bit for each read and each write of CR0 to CR15, or DR0 to
// DR15.
func registerBits(r string) x86.BitNames {
	s := "0 "
	for _, access := range []string{"READ", "WRITE"} {
		for i := range 16 {
			s += fmt.Sprintf("%s%d_%s,", r, i, access)
		}
	}
	return x86.BitNames(s[:len(s)-1])
}

// FieldBits names the bits that are set in a field's value, if it is a field of
// single bits; one without a name is "bit N". It is false for other fields.
func FieldBits(f Field, v uint64) ([]string, bool) {
	n := fieldBits(f)
	if f.Offset == RFLAGS.Offset {
		v &^= 1 << 1 // always set
	}
	return n.Of(v), n != ""
}

// intCtlNames are the single bits of int_ctl; V_TPR and the priority are
// numbers.
const intCtlNames x86.BitNames = "8 V_IRQ,V_GIF,-,V_NMI_PENDING,V_NMI_BLOCKING;20 V_IGN_TPR;24 V_INTR_MASKING,V_GIF_ENABLE,V_NMI_ENABLE;30 X2APIC_MODE,AVIC_ENABLE"

// tlbControls are the values of tlb_ctl.
var tlbControls = map[uint64]string{0: "do nothing", 1: "flush all", 3: "flush ASID", 7: "flush ASID, not global"}

// FieldText puts a field's value into words, if there are any; "" otherwise.
func (v *VMCB) FieldText(f Field) string {
	x := v.Read(f)
	switch f.Offset {
	case ExitCode.Offset:
		if v.NeverRan() {
			return ""
		}
		return v.ExitReason()
	case EventInj.Offset, ExitIntInfo.Offset:
		return event(uint32(x))
	case IntCtl.Offset:
		s := fmt.Sprintf("V_TPR %d", x&0xff)
		if x&0xf0000 != 0 {
			s += fmt.Sprintf(", priority %d", x>>16&0xf)
		}
		for _, n := range intCtlNames.Of(x &^ 0xf00ff) {
			s += ", " + n
		}
		return s
	case 0x5c:
		return tlbControls[x]
	}
	if i, part := (f.Offset-saveArea)/0x10, (f.Offset-saveArea)%0x10; f.Save() && i < len(segmentFields) && part == 2 && f.Size == 2 {
		if i == segGDTR || i == segIDTR {
			return ""
		}
		return x86.RightsText(rights(uint16(x)))
	}
	return ""
}
