package vmcs

import "vmcsnote/internal/x86"

// fieldBits are the bits of fields that are made of them. Those of controls are
// named as in Linux's asm/vmx.h and asm/vmxfeatures.h, without the prefix.
func fieldBits(e Encoding) x86.BitNames {
	switch e {
	case PinBasedVMExecControl:
		return "0 EXT_INTR_EXITING;3 NMI_EXITING;5 VIRTUAL_NMIS,PREEMPTION_TIMER,POSTED_INTR"
	case CPUBasedVMExecControl:
		return "2 INTR_WINDOW_EXITING,USE_TSC_OFFSETTING;7 HLT_EXITING;9 INVLPG_EXITING,MWAIT_EXITING,RDPMC_EXITING,RDTSC_EXITING;" +
			"15 CR3_LOAD_EXITING,CR3_STORE_EXITING,ACTIVATE_TERTIARY_CONTROLS;19 CR8_LOAD_EXITING,CR8_STORE_EXITING,TPR_SHADOW," +
			"NMI_WINDOW_EXITING,MOV_DR_EXITING,UNCOND_IO_EXITING,USE_IO_BITMAPS;27 MONITOR_TRAP_FLAG,USE_MSR_BITMAPS,MONITOR_EXITING," +
			"PAUSE_EXITING,ACTIVATE_SECONDARY_CONTROLS"
	case SecondaryVMExecControl:
		return "0 VIRTUALIZE_APIC_ACCESSES,ENABLE_EPT,DESC_EXITING,ENABLE_RDTSCP,VIRTUALIZE_X2APIC_MODE,ENABLE_VPID,WBINVD_EXITING," +
			"UNRESTRICTED_GUEST,APIC_REGISTER_VIRT,VIRTUAL_INTR_DELIVERY,PAUSE_LOOP_EXITING,RDRAND_EXITING,ENABLE_INVPCID,ENABLE_VMFUNC," +
			"SHADOW_VMCS,ENCLS_EXITING,RDSEED_EXITING,ENABLE_PML,EPT_VIOLATION_VE,PT_CONCEAL_VMX,ENABLE_XSAVES,PASID_TRANSLATION," +
			"MODE_BASED_EPT_EXEC,SPP_EPT,PT_USE_GPA,TSC_SCALING,ENABLE_USR_WAIT_PAUSE,ENABLE_PCONFIG,ENCLV_EXITING,-,BUS_LOCK_DETECTION," +
			"NOTIFY_VM_EXITING"
	case TertiaryVMExecControl:
		return "0 LOADIWKEY_EXITING,ENABLE_HLAT,EPT_PAGING_WRITE,GUEST_PAGING_VERIFICATION,IPI_VIRT,-,ENABLE_MSR_LIST,VIRTUALIZE_SPEC_CTRL"
	case VMExitControls:
		return "2 SAVE_DEBUG_CONTROLS;9 HOST_ADDR_SPACE_SIZE;12 LOAD_IA32_PERF_GLOBAL_CTRL;15 ACK_INTR_ON_EXIT;18 SAVE_IA32_PAT,LOAD_IA32_PAT," +
			"SAVE_IA32_EFER,LOAD_IA32_EFER,SAVE_VMX_PREEMPTION_TIMER,CLEAR_BNDCFGS,PT_CONCEAL_PIP,CLEAR_IA32_RTIT_CTL,CLEAR_IA32_LBR_CTL," +
			"CLEAR_UINV,LOAD_CET_STATE,LOAD_PKRS,SAVE_IA32_PERF_GLOBAL_CTRL,ACTIVATE_SECONDARY_CONTROLS"
	case VMEntryControls:
		return "2 LOAD_DEBUG_CONTROLS;9 IA32E_MODE,SMM,DEACT_DUAL_MONITOR;13 LOAD_IA32_PERF_GLOBAL_CTRL,LOAD_IA32_PAT,LOAD_IA32_EFER," +
			"LOAD_BNDCFGS,PT_CONCEAL_PIP,LOAD_IA32_RTIT_CTL,LOAD_UINV,LOAD_CET_STATE,LOAD_IA32_LBR_CTL,LOAD_PKRS,LOAD_IA32_FRED"
	case SecondaryVMExitControls:
		return "0 SAVE_IA32_FRED,LOAD_IA32_FRED"
	case GuestInterruptibilityInfo:
		return "0 STI,MOV_SS,SMI,NMI,ENCLAVE"
	case GuestCR0, HostCR0, CR0ReadShadow, CR0GuestHostMask:
		return x86.CR0Names
	case GuestCR4, HostCR4, CR4ReadShadow, CR4GuestHostMask:
		return x86.CR4Names
	case GuestIA32EFER, HostIA32EFER:
		return x86.EFERNames
	case GuestRFLAGS:
		return x86.RFLAGSNames
	case 0x4004: // EXCEPTION_BITMAP
		return x86.ExceptionNames
	}
	return ""
}

// defaultBits are the bits that are always set in a field and mean nothing.
func defaultBits(e Encoding) uint64 {
	switch e {
	case PinBasedVMExecControl:
		return pinDefault1
	case CPUBasedVMExecControl:
		return cpuDefault1
	case VMExitControls:
		return exitDefault1 &^ x86.ExitHost64
	case VMEntryControls:
		return entryDefault1
	case GuestRFLAGS:
		return 1 << 1
	}
	return 0
}

// FieldBits names the bits that are set in a field's value, if it is a field of
// single bits: controls, CR0, CR4, EFER, RFLAGS, the interruptibility state and
// the exception bitmap. Bits that are always set are left out; one without a
// name is "bit N". It is false for other fields.
func FieldBits(e Encoding, v uint64) ([]string, bool) {
	n := fieldBits(e)
	return n.Of(v &^ defaultBits(e)), n != ""
}
