package guest

import (
	"cmp"
	"encoding/binary"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/svm"
)

// Encryption returns what encrypts the machine, by its vCPUs' VMCBs and KVM's
// own structures.
func (m *Machine) Encryption() Encryption {
	if m.tdx {
		return TDX
	}
	most := svm.NotEncrypted
	for _, v := range m.VCPUs {
		if v.SVM == nil {
			continue
		}
		e := v.SVM.Encryption()
		if e == svm.SEVES && v.from != nil && v.from.SVM != nil && v.from.SVM.SNP {
			e = svm.SEVSNP
		}
		most = max(most, e)
	}
	return Encryption(most.String())
}

// NCR3 returns nested_cr3 of the machine: where the tables that map its memory
// are, in the memory that it runs in. It is 0 without nested paging, and on
// Intel's processors.
func (m *Machine) NCR3() uint64 {
	if m.Within != nil {
		return m.npt // that in the VMCB in use is the host's own
	}
	return m.nestedCR3()
}

// nestedCR3 returns the first nested_cr3 in the VMCBs of the machine's vCPUs.
func (m *Machine) nestedCR3() uint64 {
	for _, v := range m.VCPUs {
		if v.SVM == nil || !v.SVM.NestedPaging() {
			continue
		}
		if cr3 := v.SVM.Read(svm.NestedCR3); cr3 != 0 { // KVM makes the tables when a vCPU first runs
			return cr3
		}
	}
	return 0
}

// placeVMCB finds the VMCB of a vCPU.
func (a *asked) placeVMCB(v *VCPU, c *kvm.VCPU) {
	x := c.SVM
	if x == nil {
		a.inferVMCB(v, c)
		return
	}
	v.VMCB = x.VMCB
	if c.Nested {
		v.VMCB = x.VMCB01
	}
	// KVM keeps the address as the processor takes it.
	v.VMCB &^= a.k.EncryptionMask()
}

// inferredWords are the words after struct kvm_vcpu, in struct vcpu_svm, in
// which inferVMCB looks.
const inferredWords = 64

// inferVMCB finds the VMCB of a vCPU if there is no BTF of kvm_amd, as before
// Linux 5.11: after the kvm_vcpu, struct vcpu_svm has the VMCB's virtual
// address and, next to it, the physical one. The page that both lead to must be
// a VMCB. While a guest of the machine runs it is that guest's.
func (a *asked) inferVMCB(v *VCPU, c *kvm.VCPU) {
	if c.After == 0 || c.Nested {
		return
	}
	b := make([]byte, 8*inferredWords)
	n, _ := a.k.Read(b, c.After)
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	for i := range n/8 - 1 {
		pa := word(i+1) &^ a.k.EncryptionMask()
		if pa == 0 || pa%svm.PageSize != 0 || word(i)%svm.PageSize != 0 {
			continue
		}
		if phys, _, err := a.k.Phys(word(i)); err != nil || phys != pa {
			continue
		}
		block, err := svm.Read(a.mem, pa)
		if err != nil || len(block.Check()) > 0 {
			continue
		}
		v.VMCB = pa
		return
	}
}

// readVMCB reads the VMCB of a vCPU, and the registers that it has. state is
// the address of the VMCB that VMLOAD and VMSAVE are done with, which is the
// machine's own even while a guest of it runs.
func (a *asked) readVMCB(v *VCPU, state uint64) {
	var err error
	if v.SVM, err = svm.Read(a.mem, v.VMCB); err != nil {
		a.keep(err)
		return
	}
	own := v.SVM
	if state != v.VMCB {
		own = nil
		if state != 0 {
			own, err = svm.Read(a.mem, state)
			a.keep(err)
		}
	}
	v.Regs.takeVMCB(v.SVM, own)
}

// takeVMCB takes the registers that the VMCB v holds, and from state those that
// VMLOAD and VMSAVE keep there; state is nil if that VMCB is unknown. If the
// registers are encrypted it takes none: the save area has the host's.
func (r *Registers) takeVMCB(v, state *svm.VMCB) {
	if v.Encryption() >= svm.SEVES {
		return
	}
	get := func(b *svm.VMCB, f svm.Field) Register { return Register{b.Read(f), FromVMCB} }
	r.GPR[RAX], r.GPR[RSP], r.RIP, r.RFLAGS = get(v, svm.RAX), get(v, svm.RSP), get(v, svm.RIP), get(v, svm.RFLAGS)
	r.CR0, r.CR4, r.EFER = get(v, svm.CR0), get(v, svm.CR4), get(v, svm.EFER)
	if v.NestedPaging() {
		r.CR3 = get(v, svm.CR3) // otherwise KVM's own tables
	}
	r.LongMode = r.EFER.Value&x86.EFERLMA != 0
	if state != nil {
		r.KernelGSBase, r.SysenterEIP = get(state, svm.KernelGSBase), get(state, svm.SysenterEIP)
	}
	known := func(x uint64) Register { return Register{x, FromVMCB} }
	for i, s := range v.Segments(cmp.Or(state, v)) {
		if i > DS && state == nil {
			break
		}
		r.Seg[i] = SegmentRegister{known(uint64(s.Selector)), known(s.Base), known(uint64(s.Limit)), known(uint64(s.Rights))}
	}
	gdt, idt := v.Tables()
	r.GDTR.Base, r.GDTR.Limit = known(gdt.Base), known(uint64(gdt.Limit))
	r.IDTR.Base, r.IDTR.Limit = known(idt.Base), known(uint64(idt.Limit))
}

// overlayAMD takes KVM's copies of registers in place of the VMCB's. After an
// exit KVM reads RAX, RSP, RIP, CR0, CR2 and CR3 from the VMCB, and before each
// entry it writes RAX, RSP and RIP back: its copies are never older. CR0, CR4
// and EFER in the VMCB have bits that KVM needs and the guest does not see.
func (r *Registers) overlayAMD(k *kvm.Registers) {
	vmcb := *r
	r.overlay(k, false)
	for _, reg := range []struct {
		to   *Register
		old  Register
		bit  int
		copy uint64
	}{{&r.GPR[RSP], vmcb.GPR[RSP], kvm.RegRSP, k.GPR[RSP]}, {&r.RIP, vmcb.RIP, kvm.RegRIP, k.RIP}} {
		switch bit := uint64(1) << reg.bit; {
		case k.Avail&bit == 0:
			*reg.to = reg.old
		case k.Dirty&bit == 0:
			*reg.to = Register{reg.copy, FromKVM}
		}
	}
	r.CR0, r.CR4 = Register{k.CR0, FromKVM}, Register{k.CR4, FromKVM}
}
