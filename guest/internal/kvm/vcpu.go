package kvm

import (
	"github.com/pkg/errors"

	"vmcsnote/linux"
)

// VMX is where Intel's structures of a virtual CPU are, as physical addresses;
// 0 if there is none.
type VMX struct {
	VMCS   uint64 // the one in use
	VMCS01 uint64 // the machine's own
	VMCS02 uint64 // for its guest, by KVM
	Shadow uint64 // what the guest's VMREADs access
	// VMCS12 is the guest-physical address of the VMCS that the guest has
	// loaded, all ones for none; Cached12 is the kernel's copy, by virtual
	// address.
	VMCS12, Cached12 uint64
	// KernelGSBase is the guest's MSR_KERNEL_GS_BASE, if HaveGSBase is set:
	// otherwise the processor may have a newer one.
	KernelGSBase uint64
	HaveGSBase   bool
}

// SVM is where AMD's structures of a virtual CPU are, as physical addresses; 0
// if there is none.
type SVM struct {
	VMCB   uint64 // the one in use
	VMCB01 uint64 // the machine's own
	VMCB02 uint64 // for its guest, by KVM
	VMCB12 uint64 // the guest-physical address of the guest's
	// CR312 is the root of the nested page tables that the machine has for its
	// guest, a guest-physical address; 0 without.
	CR312 uint64
	// SNP means that the machine is a guest of SEV-SNP, as far as BTF tells.
	SNP bool
}

// A VCPU is a virtual CPU (struct kvm_vcpu).
type VCPU struct {
	m *Machine

	Addr   uint64
	Index  int // in its machine, from 0
	ID     int // APIC ID, as a rule
	Thread int // of the process that ran it last; 0 if none did, or if it is unknown
	// NeverRan means that no thread has run it.
	NeverRan bool
	CPU      int // the host's, on which it ran last; -1 if on none
	// Task is that thread, nil if it has ended.
	Task  *linux.Task
	State State
	Regs  Registers
	// Nested means that a guest of the machine was running.
	Nested bool
	VMX    *VMX // with kvm_intel; nil for a guest of TDX
	SVM    *SVM // with kvm_amd
	// APIC is the APIC's registers, by virtual address; 0 if KVM has none.
	APIC uint64
	// After is the virtual address at which struct kvm_vcpu ends. The vendor's
	// struct, which begins with it, goes on there.
	After uint64
	// RegsAddr is where Regs.GPR are, by virtual address.
	RegsAddr uint64
}

// TDX reports whether it is one of a guest of TDX: the registers are those that
// the guest passes to KVM, not its own.
func (v *VCPU) TDX() bool { return v.m.TDX }

func (v *VCPU) read() error {
	f := &v.m.v.fields.vcpu
	r := reader{k: v.m.v.k}
	v.ID = int(int32(r.value(v.Addr, f.ID)))
	v.CPU = int(int32(r.value(v.Addr, f.CPU)))
	regs, err := r.k.Elements(v.Addr, f.Regs)
	if err != nil {
		return errors.WithMessagef(err, "vCPU at %#x", v.Addr)
	}
	v.Regs = Registers{
		RIP:   r.value(v.Addr, f.RIP),
		Avail: v.m.v.bits.translate(r.word(v.Addr, f.Avail)), Dirty: v.m.v.bits.translate(r.word(v.Addr, f.Dirty)),
		CR0: r.value(v.Addr, f.CR0), CR2: r.value(v.Addr, f.CR2), CR3: r.value(v.Addr, f.CR3),
		CR4: r.value(v.Addr, f.CR4), CR8: r.value(v.Addr, f.CR8), EFER: r.value(v.Addr, f.EFER),
	}
	copy(v.Regs.GPR[:], regs)
	c := circumstances{mode: r.value(v.Addr, f.Mode), mpState: r.value(v.Addr, f.MPState), preempted: r.value(v.Addr, f.Preempted) != 0}
	if f.Blocking.Valid() {
		c.blocking = r.value(v.Addr, f.Blocking) != 0
	}
	if f.Running.Valid() {
		c.outside = r.value(v.Addr, f.Running) == 0
	}
	if r.err != nil {
		return errors.WithMessagef(r.err, "vCPU at %#x", v.Addr)
	}
	// Before it first runs, a vCPU has no thread. The struct pid may not be in
	// the dump.
	pid, err := r.k.Value(v.Addr, f.PID)
	v.NeverRan = err == nil && pid == 0
	if n, err := r.k.Value(v.Addr, f.Thread); err == nil {
		v.Thread = int(int32(n))
	}
	if t, ok := v.m.thread(v.Thread); ok {
		v.Task = &t
		c.running, _ = t.OnCPU()
		c.asleep = !c.running
	}
	v.State = c.state()
	v.APIC, v.RegsAddr, v.After = r.optional(v.Addr, f.APIC), v.Addr+f.Regs.Offset(), v.Addr+v.m.v.vcpuSize
	switch {
	case v.m.TDX: // after the kvm_vcpu struct vcpu_tdx goes on, not vcpu_vmx
	case v.m.v.fields.vmx.VCPU.Valid() && v.m.v.Intel:
		v.readVMX(r)
	case v.m.v.fields.svm.VCPU.Valid() && v.m.v.AMD:
		v.readSVM(r)
	default:
		v.Nested = inGuest(r.optional(v.Addr, f.HFlags), v.m.v.Intel, r.k.Release())
	}
	return nil
}

// readVMX reads struct vcpu_vmx, of which the kvm_vcpu is a part.
func (v *VCPU) readVMX(r reader) {
	f := &v.m.v.fields.vmx
	at := v.Addr - f.VCPU.Offset()
	// VMCSs are in the direct map.
	phys := func(f linux.Field) uint64 {
		if addr := r.optional(at, f); addr != 0 {
			if phys, _, err := r.k.Phys(addr); err == nil {
				return phys
			}
		}
		return 0
	}
	v.VMX = &VMX{
		VMCS: phys(f.VMCS), VMCS01: phys(f.VMCS01), VMCS02: phys(f.VMCS02), Shadow: phys(f.Shadow),
		VMCS12: ^uint64(0), Cached12: r.optional(at, f.Cached),
	}
	if f.Current.Valid() {
		if gpa, err := r.k.Value(at, f.Current); err == nil {
			v.VMX.VMCS12 = gpa
		}
	}
	if f.GSBase.Valid() && f.Inside.Valid() {
		base, err1 := r.k.Value(at, f.GSBase)
		inside, err2 := r.k.Value(at, f.Inside)
		v.VMX.KernelGSBase, v.VMX.HaveGSBase = base, err1 == nil && err2 == nil && inside == 0
	}
	v.Nested = f.In02.Valid() && r.optional(at, f.Loaded) == at+f.In02.Offset()
}

// readSVM reads struct vcpu_svm, of which the kvm_vcpu is a part.
func (v *VCPU) readSVM(r reader) {
	f := &v.m.v.fields.svm
	at := v.Addr - f.VCPU.Offset()
	v.SVM = &SVM{VMCB: r.optional(at, f.VMCB), VMCB01: r.optional(at, f.VMCB01), VMCB02: r.optional(at, f.VMCB02), VMCB12: r.optional(at, f.VMCB12)}
	const enabled = 1 // SVM_NESTED_CTL_NP_ENABLE
	if r.optional(at, f.Paging12)&enabled != 0 {
		v.SVM.CR312 = r.optional(at, f.CR312)
	}
	v.Nested = f.In02.Valid() && r.optional(at, f.Current) == at+f.In02.Offset()
	const active = 1 // SVM_SEV_FEAT_SNP_ACTIVE
	if kvm := &v.m.v.fields.amdMachine; kvm.Machine.Valid() {
		v.SVM.SNP = r.optional(v.m.Addr-kvm.Machine.Offset(), kvm.Features)&active != 0
	}
}
