package guest

import (
	"encoding/binary"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/svm"
	"vmcsnote/vmcs"
)

// complete takes the registers of a vCPU: what its VMCS or VMCB holds, and
// KVM's copies of the others. While a guest of the machine runs, KVM's copies
// are that guest's, and nothing holds the machine's own.
func (a *asked) complete(v *VCPU, c *kvm.VCPU) {
	v.Regs = new(Registers)
	if v.HasVMCS() {
		v.Regs = RegistersIn(&v.VMCS)
		readAPIC(a.mem, &v.VMCS, v.Regs)
	}
	if v.VMCB != 0 {
		a.readVMCB(v, v.VMCB)
	}
	if c.TDX() {
		return
	}
	if c.APIC != 0 {
		a.takeAPIC(v.Regs, c.APIC)
	}
	if c.Nested {
		return
	}
	a.takeCopies(v.Regs, v, c)
}

// takeCopies takes KVM's copies. v's VMCS is the one in use, if it has one.
func (a *asked) takeCopies(r *Registers, v *VCPU, c *kvm.VCPU) {
	if v.SVM != nil && v.SVM.Encryption() >= svm.SEVES {
		return // KVM's copies are what the guest last let its host see
	}
	k := &c.Regs
	avail := func(bit int) bool { return k.Avail>>bit&1 != 0 }
	_, ept := v.Read(vmcs.EPTPointer)
	switch {
	case v.HasVMCS() && ept:
		r.overlay(k, v.OwnCR3())
	case v.Vendor == AMD:
		r.overlayAMD(k)
	default:
		r.overlay(k, !avail(kvm.RegCR3))
	}
	if v.Vendor != AMD {
		// The layout lacks them, or there is none. Bits of CR0 and CR4 that the
		// guest may change are newer in the VMCS, unless KVM has fetched them.
		for _, copied := range []struct {
			to         *Register
			bit        int
			value      uint64
			real, mask vmcs.Encoding
		}{
			{&r.GPR[RSP], kvm.RegRSP, k.GPR[RSP], 0, 0}, {&r.RIP, kvm.RegRIP, k.RIP, 0, 0}, {&r.CR3, kvm.RegCR3, k.CR3, 0, 0},
			{&r.CR0, kvm.RegCR0, k.CR0, vmcs.GuestCR0, vmcs.CR0GuestHostMask}, {&r.CR4, kvm.RegCR4, k.CR4, vmcs.GuestCR4, vmcs.CR4GuestHostMask},
		} {
			if copied.to.Known() {
				continue
			}
			real, ok1 := v.Read(copied.real)
			mask, ok2 := v.Read(copied.mask)
			switch {
			case avail(copied.bit):
				*copied.to = Register{copied.value, FromKVM}
			case copied.real != 0 && ok1 && ok2:
				*copied.to = Register{copied.value&mask | real&^mask, FromKVM}
			}
		}
	}
	r.EFER = Register{k.EFER, FromKVM}
	if _, ok := v.Read(vmcs.VMEntryControls); !ok {
		r.LongMode = k.EFER&x86.EFERLMA != 0
	}
	if c.APIC == 0 && !r.CR8.Known() {
		r.CR8 = Register{k.CR8, FromKVM}
	}
	if x := c.VMX; x != nil && x.HaveGSBase {
		r.KernelGSBase = Register{x.KernelGSBase, FromKVM}
	}
	r.Evidence.Held = ByKVM
	r.Evidence.Array, _, _ = a.k.Phys(c.RegsAddr)
}

// overlay takes KVM's copies of registers that no VMCS holds, and of others if
// regs_dirty says that they are newer: KVM would have written them to the VMCS
// on the next VM entry. own says that CR3 in the VMCS is the guest's; otherwise
// that is KVM's own, and the guest's is in KVM's copy.
func (r *Registers) overlay(k *kvm.Registers, own bool) {
	for i := range r.GPR {
		if i != RSP {
			r.GPR[i] = Register{k.GPR[i], FromKVM}
		}
	}
	newer := func(bit int, to *Register, value uint64) {
		if k.Avail&k.Dirty>>bit&1 != 0 {
			*to = Register{value, FromKVMDirty}
		}
	}
	newer(kvm.RegRSP, &r.GPR[RSP], k.GPR[RSP])
	newer(kvm.RegRIP, &r.RIP, k.RIP)
	r.CR2 = Register{k.CR2, FromKVM}
	switch {
	case !own:
		r.CR3 = Register{k.CR3, FromKVM}
	case k.CR3 != r.CR3.Value:
		newer(kvm.RegCR3, &r.CR3, k.CR3)
	}
}

// takeAPIC takes the vCPU's number and CR8 from the APIC's registers.
func (a *asked) takeAPIC(r *Registers, addr uint64) {
	b := make([]byte, 0x84)
	if n, _ := a.k.Read(b, addr); n == len(b) {
		r.apic(b)
	}
}

// apic takes the vCPU's number and CR8 from the first 0x84 bytes of an APIC's
// registers.
func (r *Registers) apic(b []byte) {
	id, tpr := binary.LittleEndian.Uint32(b[0x20:]), binary.LittleEndian.Uint32(b[0x80:])
	if tpr < 0x100 {
		r.CR8 = Register{uint64(tpr >> 4), FromAPIC}
	}
	// In xAPIC mode the number is bits 31:24, in x2APIC mode all of it; a
	// machine with 2^24 vCPUs in x2APIC mode does not exist.
	if id&0xffffff == 0 {
		id >>= 24
	}
	r.APICID = Register{uint64(id), FromAPIC}
}

// mode returns the mode by the registers alone, without a VMCS.
func (r *Registers) mode() x86.Mode {
	rights, rip := r.Seg[CS].Rights, r.RIP
	switch {
	case !r.CR0.Known():
	case r.CR0.Value&x86.CR0PE == 0:
		return x86.ModeReal
	case r.LongMode && !rights.Known() && rip.Known() && rip.Value>>32 != 0:
		return x86.ModeLong // no other code lies there
	case r.CR4.Known() && r.RFLAGS.Known() && rights.Known():
		return x86.ModeOf(r.CR0.Value, r.CR4.Value, r.RFLAGS.Value, r.LongMode, rights.Value&x86.RightsLong != 0)
	}
	return x86.ModeUnknown
}
