package learn

import (
	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// A kept is a field of which KVM keeps a copy. The copy counts only while a bit
// of a control is set: otherwise the processor may lack the field, or KVM may
// not use it.
type kept struct {
	field      vmcs.Encoding
	value      uint8  // index of kvm.Written.Values
	control    uint8  // likewise
	bit        uint32 // of the control; 0 if there is no such condition
	sure, must bool   // see Value
}

var copies = [...]kept{
	{vmcs.HostCR3, kvm.HostCR3, 0, 0, true, true},
	{vmcs.HostRSP, kvm.HostRSP, 0, 0, true, true},
	{vmcs.CPUBasedVMExecControl, kvm.Exec, 0, 0, true, true},
	{vmcs.VMEntryControls, kvm.Entry, 0, 0, true, true},
	{vmcs.VMExitControls, kvm.Exit, 0, 0, true, true},
	{vmcs.PinBasedVMExecControl, kvm.Pin, 0, 0, true, false},
	{vmcs.HostRIP, kvm.HostRIP, 0, 0, true, false},
	{vmcs.HostCR4, kvm.HostCR4, 0, 0, true, false},
	{vmcs.HostFSBase, kvm.HostFSBase, 0, 0, true, false},
	{vmcs.HostGSBase, kvm.HostGSBase, 0, 0, true, false},
	{vmcs.VMEntryMSRLoadAddr, kvm.EntryLoad, 0, 0, true, false},
	{vmcs.VMExitMSRLoadAddr, kvm.ExitLoad, 0, 0, true, false},
	{vmcs.CR0GuestHostMask, kvm.CR0Mask, 0, 0, true, false},
	{vmcs.CR4GuestHostMask, kvm.CR4Mask, 0, 0, true, false},
	{vmcs.HostIA32SysenterEIP, kvm.HostSysenterEIP, 0, 0, false, false},
	{vmcs.SecondaryVMExecControl, kvm.Secondary, kvm.Exec, x86.CPUSecondary, false, false},
	{vmcs.TertiaryVMExecControl, kvm.Tertiary, kvm.Exec, x86.CPUTertiary, false, false},
	{vmcs.MSRBitmap, kvm.MSRBitmap, kvm.Exec, x86.CPUMSRBitmaps, false, false},
	{vmcs.VirtualApicPageAddr, kvm.VirtualAPIC, kvm.Exec, x86.CPUTPRShadow, false, false},
	{vmcs.TSCOffset, kvm.TSCOffset, kvm.Exec, x86.CPUTSCOffsetting, false, false},
	{vmcs.TSCMultiplier, kvm.TSCRatio, kvm.Secondary, x86.SecondaryTSCScaling, false, false},
	{vmcs.VirtualProcessorID, kvm.VPID, kvm.Secondary, x86.SecondaryVPID, false, false},
	{vmcs.PostedIntrDescAddr, kvm.Posted, kvm.Pin, x86.PinPostedInterrupts, false, false},
	{vmcs.GuestIA32PAT, kvm.PAT, kvm.Entry, x86.EntryLoadPAT, false, false},
}

// collected gathers values. It leaves out zeros.
type collected []Value

//go:noinline
func (c *collected) add(e vmcs.Encoding, want, ignore uint64) {
	if want&^ignore != 0 {
		*c = append(*c, Value{Field: e, Want: want, Ignore: ignore})
	}
}

// Values returns what the VMCS that KVM uses for a vCPU must hold, by KVM's own
// copies. apicAccess is the physical address of the machine's APIC-access page;
// 0 if it is not known.
func Values(c *kvm.VCPU, apicAccess uint64) []Value {
	own, ok := c.Written()
	w := &own.Values
	if !ok || c.Nested || w[kvm.HostCR3] == 0 {
		return nil
	}
	if w[kvm.Exec]&x86.CPUSecondary == 0 {
		w[kvm.Secondary] = 0
	}
	var values collected
	for _, c := range copies {
		if want := w[c.value]; want != 0 && (c.bit == 0 || w[c.control]&uint64(c.bit) != 0) {
			values = append(values, Value{c.field, want, 0, c.sure, c.must})
		}
	}
	secondary := w[kvm.Secondary]
	if secondary&x86.SecondaryAPICAccesses != 0 {
		values.add(vmcs.ApicAccessAddr, apicAccess, 0)
	}
	const (
		writeBack = 6        // the memory type that KVM has for its tables
		options   = 0xf << 3 // levels less 1, and whether accesses are recorded
	)
	if root := w[kvm.Root]; secondary&x86.SecondaryEPT != 0 && root != 0 && root != ^uint64(0) {
		values.add(vmcs.EPTPointer, root|writeBack, options)
	}
	if c.State != kvm.InGuest { // otherwise the registers may be newer than the copies
		values.registers(&c.Regs, &own, c.State)
	}
	return values
}

// registers adds what the VMCS must hold of the guest's registers, and of the
// last VM exit.
func (c *collected) registers(r *kvm.Registers, own *kvm.Written, state kvm.State) {
	w := &own.Values
	avail := func(bit int) bool { return r.Avail>>bit&1 != 0 }
	clean := func(bit int) bool { return r.Avail&^r.Dirty>>bit&1 != 0 }
	if clean(kvm.RegRSP) {
		c.add(vmcs.GuestRSP, r.GPR[kvm.RegRSP], 0)
	}
	const exitHLT, lenHLT = 12, 1
	switch {
	case clean(kvm.RegRIP):
		c.add(vmcs.GuestRIP, r.RIP, 0)
	case avail(kvm.RegRIP) && state == kvm.Halted && w[kvm.ExitReason] == exitHLT:
		// KVM has gone past the instruction, the VMCS has not.
		c.add(vmcs.GuestRIP, r.RIP-lenHLT, 0)
	}
	// The guest changes the bits that it owns without KVM.
	cr0, cr4 := ^w[kvm.CR0Mask], ^w[kvm.CR4Mask]
	c.add(vmcs.CR0ReadShadow, r.CR0, cr0)
	c.add(vmcs.CR4ReadShadow, r.CR4, cr4)
	if avail(kvm.RegCR0) {
		cr0 = 0
	}
	if avail(kvm.RegCR4) {
		cr4 = 0
	}
	const unrestricted = x86.SecondaryEPT | x86.SecondaryUnrestricted
	if w[kvm.Secondary]&unrestricted == unrestricted {
		c.add(vmcs.GuestCR0, r.CR0&^(x86.CR0NW|x86.CR0CD)|x86.CR0NE, cr0|x86.CR0WP)
		c.add(vmcs.GuestCR4, r.CR4|x86.CR4VMXE, cr4|x86.CR4MCE|x86.CR4UMIP) // MCE is the host's, UMIP may be emulated
		if clean(kvm.RegCR3) {
			c.add(vmcs.GuestCR3, r.CR3, 0)
		}
	}
	if w[kvm.VM86] == 0 {
		if avail(kvm.RegRFLAGS) {
			c.add(vmcs.GuestRFLAGS, w[kvm.RFLAGS], 0)
		}
		for i, s := range own.Segments {
			for j, e := range [...]vmcs.Encoding{vmcs.GuestESSelector, vmcs.GuestESBase, vmcs.GuestESLimit, vmcs.GuestESARBytes} {
				if s.Have>>j&1 != 0 {
					c.add(e+vmcs.Encoding(2*i), s.Parts[j], 0)
				}
			}
		}
	}
	if w[kvm.HostRSP] == 0 {
		return // it never ran
	}
	c.add(vmcs.VMExitReason, w[kvm.ExitReason], 0)
	c.add(vmcs.IDTVectoringInfoField, w[kvm.IDTVectoring], 0)
	if avail(kvm.RegExitInfo1) {
		c.add(vmcs.ExitQualification, w[kvm.Qualification], 0)
	}
	if avail(kvm.RegExitInfo2) {
		c.add(vmcs.VMExitIntrInfo, w[kvm.ExitIntrInfo], 0)
	}
}
