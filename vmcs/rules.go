package vmcs

import "vmcsnote/internal/x86"

// page weighs what the page itself holds. The rules that tell most come first.
// It gives up once the page is rejected, unless the checks are kept.
func (j *judge) page() {
	for _, rules := range [...]func(*judge) bool{
		(*judge).header, (*judge).host, (*judge).guest, (*judge).controls, (*judge).hostState, (*judge).guestState, (*judge).segments,
	} {
		if !rules(j) {
			return
		}
	}
}

// header checks the abort indicator and the link pointer.
func (j *judge) header() bool {
	ok := j.must("VMX-abort indicator", uint64(j.Abort()), "0, or a small number after a VMX abort", j.Abort() < maxAbort)
	if link, has := j.Read(VMCSLinkPointer); ok && has {
		// If the guest is a hypervisor, the pointer is a shadow VMCS's address.
		ok = j.must("VMCS_LINK_POINTER", link, "all ones, or the address of a VMCS",
			link == ^uint64(0) || link != 0 && link%PageSize == 0 && physical(link))
	}
	return ok
}

// host checks what VM entry demands of the host's state, and what all hosts
// have: VMX needs paging and protection.
func (j *judge) host() bool {
	const fixed = x86.CR0PE | x86.CR0NE | x86.CR0PG
	if v, has := j.Read(HostCR4); has && !j.must("HOST_CR4", v, "VMXE set, bits 63:33 clear", v&x86.CR4VMXE != 0 && v>>33 == 0) {
		return false
	}
	if v, has := j.Read(HostCR0); has && !j.must("HOST_CR0", v, "PG, NE and PE set, bits 63:32 clear", v&fixed == fixed && v>>32 == 0) {
		return false
	}
	if v, has := j.Read(HostCR3); has && !j.must("HOST_CR3", v, "the address of a page table, below 2^52", v >= PageSize && physical(v&^x86.CR3LAM)) {
		return false
	}
	if v, has := j.Read(HostRIP); has && !j.must("HOST_RIP", v, "a canonical address", v != 0 && canonical(v)) {
		return false
	}
	return true
}

// guest checks those fields of the guest's state that every VM entry demands.
func (j *judge) guest() bool {
	const reserved = ^uint64(1<<22-1) | 1<<15 | 1<<5 | 1<<3
	if v, has := j.Read(GuestRFLAGS); has && !j.must("GUEST_RFLAGS", v, "bit 1 set, reserved bits clear", v&2 != 0 && v&reserved == 0) {
		return false
	}
	if v, has := j.Read(GuestCR0); has && !j.must("GUEST_CR0", v, "NE set, bits 63:32 clear", v&x86.CR0NE != 0 && v>>32 == 0) {
		return false
	}
	if v, has := j.Read(GuestCR4); has && !j.must("GUEST_CR4", v, "VMXE set, bits 63:33 clear", v&x86.CR4VMXE != 0 && v>>33 == 0) {
		return false
	}
	if v, has := j.Read(GuestActivityState); has && !j.must("GUEST_ACTIVITY_STATE", v, "0 to 3", v <= 3) {
		return false
	}
	if v, has := j.Read(EPTPointer); has && !j.must("EPT_POINTER", v, "0, or memory type 0 or 6, walk length 4 or 5, bits 11:8 and 63:52 clear",
		v == 0 || x86.EPTP(v).Valid()) {
		return false
	}
	return true
}

// The controls' bits that are reserved and 1 on every processor, whatever
// IA32_VMX_TRUE_*_CTLS say (SDM volume 3, appendix A.3 to A.5).
const (
	pinDefault1   = 1<<1 | 1<<2 | 1<<4
	cpuDefault1   = 1<<1 | 1<<4 | 1<<5 | 1<<6 | 1<<8 | 1<<13 | 1<<14 | 1<<26
	exitDefault1  = 0x36dfb
	entryDefault1 = 0x11fb
)

// controls checks the controls, what some of them enable, and the exit reason.
func (j *judge) controls() bool {
	for _, c := range [...]struct {
		e    Encoding
		name string
		bits uint64
	}{
		{PinBasedVMExecControl, "PIN_BASED_VM_EXEC_CONTROL", pinDefault1},
		{CPUBasedVMExecControl, "CPU_BASED_VM_EXEC_CONTROL", cpuDefault1},
		{VMExitControls, "VM_EXIT_CONTROLS", exitDefault1},
		{VMEntryControls, "VM_ENTRY_CONTROLS", entryDefault1},
	} {
		if v, has := j.Read(c.e); has {
			j.add(Check{Name: c.name, Value: v, Want: "the bits set that are always 1", Answer: answer(v&c.bits == c.bits), Weight: 2, Fails: Live})
		}
	}
	for _, p := range [...]struct {
		e    Encoding
		name string
	}{{MSRBitmap, "MSR_BITMAP"}, {IOBitmapA, "IO_BITMAP_A"}, {IOBitmapB, "IO_BITMAP_B"}, {VirtualApicPageAddr, "VIRTUAL_APIC_PAGE_ADDR"}} {
		if v, has := j.Read(p.e); has {
			j.should(p.name, v, "the address of a page, or all ones", v%PageSize == 0 && physical(v) || v == ^uint64(0))
		}
	}
	if v, has := j.Read(VirtualProcessorID); has && j.Secondary()&x86.SecondaryVPID != 0 {
		j.should("VIRTUAL_PROCESSOR_ID", v, "not 0, VPIDs being enabled", v != 0)
	}
	if v, has := j.Read(EPTPointer); has && j.Secondary()&x86.SecondaryEPT != 0 {
		j.should("EPT_POINTER", v, "not 0, EPT being enabled", v != 0)
	}
	if v, has := j.Read(VMExitReason); has {
		j.should("VM_EXIT_REASON", v, "a basic reason there is, bits 24:16 clear", v&0xffff < 128 && v>>16&0x1ff == 0)
	}
	return true
}

// hostState checks the rest of the host's state.
func (j *judge) hostState() bool {
	// RPL and TI are clear in all of them, and two of them are never 0.
	var selectors uint64
	has := true
	for e := HostESSelector; e <= HostTRSelector; e += 2 {
		v, ok := j.Read(e)
		if has = has && ok; e == HostCSSelector || e == HostTRSelector {
			has = has && v != 0
		}
		selectors |= v
	}
	if _, known := j.Read(HostCSSelector); known {
		j.should("HOST_*_SELECTOR", selectors, "RPL and TI clear in all, CS and TR not 0", has && selectors&7 == 0)
	}
	exit, _ := j.Read(VMExitControls)
	if v, has := j.Read(HostIA32EFER); has && exit&x86.ExitLoadEFER != 0 {
		host64 := exit&x86.ExitHost64 != 0
		j.should("HOST_IA32_EFER", v, "LMA and LME as the host's address-space size", v&x86.EFERLMA != 0 == host64 && v&x86.EFERLME != 0 == host64)
	}
	if v, has := j.Read(HostCR4); has && exit&x86.ExitHost64 != 0 {
		j.should("HOST_CR4", v, "PAE set, the host being in 64-bit mode", v&x86.CR4PAE != 0)
	}
	for _, p := range [...]struct {
		e    Encoding
		name string
	}{{HostTRBase, "HOST_TR_BASE"}, {HostGDTRBase, "HOST_GDTR_BASE"}, {HostIDTRBase, "HOST_IDTR_BASE"}, {HostIA32SysenterEIP, "HOST_IA32_SYSENTER_EIP"}, {HostRSP, "HOST_RSP"}} {
		if v, has := j.Read(p.e); has {
			j.should(p.name, v, "a canonical address", canonical(v))
		}
	}
	return true
}

// guestState checks that the guest's state agrees with itself and the controls.
func (j *judge) guestState() bool {
	cr0, hasCR0 := j.Read(GuestCR0)
	cr4, hasCR4 := j.Read(GuestCR4)
	entry, _ := j.Read(VMEntryControls)
	if _, has := j.Read(SecondaryVMExecControl); has && hasCR0 {
		j.should("GUEST_CR0", cr0, "PG and PE set but in an unrestricted guest, never PG alone",
			cr0&x86.CR0PG == 0 || cr0&x86.CR0PE != 0) // PG needs PE
		if !j.unrestricted() {
			j.should("GUEST_CR0", cr0, "PG and PE set, the guest being no unrestricted one", cr0&x86.CR0PG != 0 && cr0&x86.CR0PE != 0)
		}
	}
	if hasCR0 && hasCR4 && entry&x86.EntryIA32e != 0 {
		j.should("VM_ENTRY_CONTROLS", entry, "IA-32e mode with paging and PAE alone", cr0&x86.CR0PG != 0 && cr4&x86.CR4PAE != 0)
	}
	if v, has := j.Read(GuestCR3); has {
		j.should("GUEST_CR3", v, "below 2^52", physical(v&^x86.CR3LAM))
	}
	if v, has := j.Read(GuestDR7); has {
		j.should("GUEST_DR7", v, "bits 63:32 clear", v>>32 == 0)
	}
	if v, has := j.Read(GuestRIP); has {
		j.should("GUEST_RIP", v, "canonical, and of 32 bits outside of IA-32e mode", canonical(v) && (entry&x86.EntryIA32e != 0 || v>>32 == 0))
	}
	if v, has := j.Read(GuestInterruptibilityInfo); has {
		j.should("GUEST_INTERRUPTIBILITY_INFO", v, "bits 31:5 clear, not blocked by both STI and MOV SS", v>>5 == 0 && v&3 != 3)
	}
	return true
}

// segments checks the guest's access rights, if it is known how they are
// stored.
func (j *judge) segments() bool {
	if j.Layout.AccessRights == RightsUnknown {
		return true
	}
	for i, name := range x86.SegmentNames {
		if v, has := j.Read(GuestESARBytes + Encoding(2*i)); has {
			want := "those of a code or data segment, or unusable"
			if i >= segLDTR {
				want = "those of a system segment"
			}
			j.should("GUEST_"+name+"_AR_BYTES", v, want, validRights(i, uint32(v)))
		}
	}
	return true
}
