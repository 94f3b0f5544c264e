package vmcs

import "vmcsnote/internal/x86"

// A Mode is what a virtual CPU's guest runs in, as the guest sees it.
type Mode = x86.Mode

// The modes; [ModeUnknown] if the layout does not have the fields to tell.
const (
	ModeUnknown       = x86.ModeUnknown
	ModeReal          = x86.ModeReal
	ModeVirtual8086   = x86.ModeVirtual8086
	ModeProtected     = x86.ModeProtected
	ModePAE           = x86.ModePAE
	ModeLong          = x86.ModeLong
	ModeCompatibility = x86.ModeCompatibility
)

// Mode returns the mode that the guest runs in. Long mode is told by
// VM_ENTRY_CONTROLS: GUEST_IA32_EFER in the page may be old.
func (v *VMCS) Mode() Mode {
	cr0, ok0 := v.GuestCR0()
	cr4, ok4 := v.GuestCR4()
	entry, okEntry := v.Read(VMEntryControls)
	rflags, okFlags := v.Read(GuestRFLAGS)
	rights, okRights := v.Read(GuestCSARBytes)
	switch {
	case !ok0:
		return ModeUnknown
	case cr0&x86.CR0PE == 0:
		return ModeReal
	case !okEntry || !okFlags || !ok4:
		return ModeUnknown
	case entry&x86.EntryIA32e != 0 && (!okRights || v.Layout.AccessRights == RightsUnknown):
		return ModeUnknown
	}
	return x86.ModeOf(cr0, cr4, rflags, entry&x86.EntryIA32e != 0, rights&x86.RightsLong != 0)
}

// ModeEmulated reports whether the guest takes itself to be in real mode, or in
// protected mode without paging, while the processor runs it with protection
// and paging on (real mode as virtual-8086 mode). A hypervisor must do that if
// the guest is not an unrestricted one.
func (v *VMCS) ModeEmulated() bool {
	real, ok := v.Read(GuestCR0)
	seen, ok2 := v.GuestCR0()
	return ok && ok2 && (real^seen)&real&(x86.CR0PE|x86.CR0PG) != 0
}

// GuestCR0 returns CR0 as the guest reads it: the bits of CR0_GUEST_HOST_MASK
// come from CR0_READ_SHADOW, the others from GUEST_CR0. It is false where the
// layout lacks one of the three.
func (v *VMCS) GuestCR0() (uint64, bool) { return v.seen(GuestCR0, CR0GuestHostMask, CR0ReadShadow) }

// GuestCR4 returns CR4 as the guest reads it, as GuestCR0 does CR0.
func (v *VMCS) GuestCR4() (uint64, bool) { return v.seen(GuestCR4, CR4GuestHostMask, CR4ReadShadow) }

func (v *VMCS) seen(register, mask, shadow Encoding) (uint64, bool) {
	r, ok1 := v.Read(register)
	m, ok2 := v.Read(mask)
	s, ok3 := v.Read(shadow)
	return r&^m | s&m, ok1 && ok2 && ok3
}

// OwnCR3 reports whether GUEST_CR3 is the guest's. It is the hypervisor's
// without EPT. It also is while the guest's paging is off and the processor
// cannot run it so (EPT without "unrestricted guest", as on Nehalem): then it
// leads to tables that map everything to itself.
func (v *VMCS) OwnCR3() bool {
	_, ept := v.EPTPointer()
	real, ok := v.Read(GuestCR0)
	seen, ok2 := v.GuestCR0()
	return ept && !(ok && ok2 && real&^seen&x86.CR0PG != 0)
}

// GuestEFER returns GUEST_IA32_EFER, if VM entry loads it (VM_ENTRY_CONTROLS
// bit 15): otherwise the value in the page is stale. Its LMA and LME are what
// the processor runs with.
func (v *VMCS) GuestEFER() (uint64, bool) {
	efer, ok1 := v.Read(GuestIA32EFER)
	entry, ok2 := v.Read(VMEntryControls)
	return efer, ok1 && ok2 && entry&x86.EntryLoadEFER != 0
}

// EPTPointer returns EPT_POINTER; false if the guest runs without EPT: then
// GUEST_CR3 is the hypervisor's own table. If the layout lacks the control that
// enables EPT, a valid pointer counts as EPT.
func (v *VMCS) EPTPointer() (x86.EPTP, bool) {
	p, ok := v.Read(EPTPointer)
	if _, has := v.Read(SecondaryVMExecControl); has {
		return x86.EPTP(p), ok && v.Secondary()&x86.SecondaryEPT != 0
	}
	return x86.EPTP(p), ok && x86.EPTP(p).Valid()
}

// NeverExited reports whether no VM exit was ever recorded in the VMCS: its
// virtual CPU has never run. Exit reason 0 is that of an exception or NMI,
// which VM_EXIT_INTR_INFO then describes (bit 31); a fresh VMCS has zeros in
// both.
func (v *VMCS) NeverExited() bool {
	reason, ok := v.Read(VMExitReason)
	info, ok2 := v.Read(VMExitIntrInfo)
	return ok && ok2 && reason == 0 && info>>31 == 0
}

// VPID returns VIRTUAL_PROCESSOR_ID; false if VPIDs are not enabled.
func (v *VMCS) VPID() (uint16, bool) {
	id, ok := v.Read(VirtualProcessorID)
	return uint16(id), ok && v.Secondary()&x86.SecondaryVPID != 0
}

// Secondary returns SECONDARY_VM_EXEC_CONTROL; 0 if the primary controls do not
// activate it, whatever the page holds.
func (v *VMCS) Secondary() uint32 {
	if primary, has := v.Read(CPUBasedVMExecControl); has && primary&x86.CPUSecondary == 0 {
		return 0
	}
	s, _ := v.Read(SecondaryVMExecControl)
	return uint32(s)
}

// unrestricted reports whether the guest may run without paging or protection.
func (v *VMCS) unrestricted() bool { return v.Secondary()&x86.SecondaryUnrestricted != 0 }
