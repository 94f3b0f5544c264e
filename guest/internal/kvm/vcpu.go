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
}

// SVM is where AMD's structures of a virtual CPU are, as physical addresses; 0
// if there is none.
type SVM struct {
	VMCB   uint64 // the one in use
	VMCB01 uint64 // the machine's own
	VMCB02 uint64 // for its guest, by KVM
	VMCB12 uint64 // the guest-physical address of the guest's
}

// A VCPU is a virtual CPU (struct kvm_vcpu).
type VCPU struct {
	m *Machine

	Addr   uint64
	ID     int // APIC ID, as a rule
	Thread int // of the process that ran it last; 0 if none did
	CPU    int // the host's, on which it ran last; -1 if on none
	// Task is that thread, nil if it has ended.
	Task  *linux.Task
	State State
	// Exit is KVM_EXIT_..., what the process was told last, if HaveExit is
	// set.
	Exit     uint32
	HaveExit bool
	Regs     Registers
	// Root is the root of the tables that map guest memory now, EPT or NPT
	// as a rule; HostRoot is that of the machine even while a guest of it
	// runs. All ones if there is none.
	Root, HostRoot uint64
	// Nested means that a guest of the machine was running.
	Nested bool
	VMX    *VMX // with kvm_intel
	SVM    *SVM // with kvm_amd
}

func (v *VCPU) read() error {
	f := &v.m.v.fields.vcpu
	r := reader{k: v.m.v.k}
	v.ID = int(int32(r.value(v.Addr, f.ID)))
	v.CPU = int(int32(r.value(v.Addr, f.CPU)))
	regs, err := r.k.Elements(v.Addr, f.Regs)
	if err != nil {
		return err
	}
	v.Regs = Registers{
		RIP:   r.value(v.Addr, f.RIP),
		Avail: v.m.v.bits.translate(r.word(v.Addr, f.Avail)), Dirty: v.m.v.bits.translate(r.word(v.Addr, f.Dirty)),
		CR0: r.value(v.Addr, f.CR0), CR2: r.value(v.Addr, f.CR2), CR3: r.value(v.Addr, f.CR3),
		CR4: r.value(v.Addr, f.CR4), CR8: r.value(v.Addr, f.CR8), EFER: r.value(v.Addr, f.EFER),
	}
	copy(v.Regs.GPR[:], regs)
	v.Root, v.HostRoot = r.value(v.Addr, f.Root), r.value(v.Addr, f.HostRoot)
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
	// Before it first runs, a vCPU has no thread; kvm_run may not be in the
	// dump.
	if n, err := r.k.Value(v.Addr, f.Thread); err == nil {
		v.Thread = int(int32(n))
	}
	if t, ok := v.m.thread(v.Thread); ok {
		v.Task = &t
		c.running, _ = t.OnCPU()
		c.asleep = !c.running
	}
	v.State = c.state()
	if n, err := r.k.Value(v.Addr, f.Exit); err == nil {
		v.Exit, v.HaveExit = uint32(n), true
	}
	switch {
	case v.m.v.Intel:
		return v.readVMX()
	case v.m.v.AMD:
		return v.readSVM()
	}
	return nil
}

// readVMX reads struct vcpu_vmx, of which the kvm_vcpu is a part.
func (v *VCPU) readVMX() error {
	f := &v.m.v.fields.vmx
	r := reader{k: v.m.v.k}
	at := v.Addr - f.VCPU.Offset()
	x := &VMX{VMCS12: r.value(at, f.Current), Cached12: r.value(at, f.Cached)}
	// VMCSs are in the direct map.
	phys := func(addr uint64) uint64 {
		if addr == 0 {
			return 0
		}
		phys, _, err := r.k.Phys(addr)
		if r.err == nil {
			r.err = err
		}
		return phys
	}
	x.VMCS, x.VMCS01 = phys(r.value(at, f.VMCS)), phys(r.value(at, f.VMCS01))
	x.VMCS02, x.Shadow = phys(r.value(at, f.VMCS02)), phys(r.value(at, f.Shadow))
	v.Nested = r.value(at, f.Loaded) == at+f.In02.Offset()
	v.VMX = x
	return errors.WithMessagef(r.err, "vCPU at %#x", v.Addr)
}

// readSVM reads struct vcpu_svm, of which the kvm_vcpu is a part.
func (v *VCPU) readSVM() error {
	f := &v.m.v.fields.svm
	r := reader{k: v.m.v.k}
	at := v.Addr - f.VCPU.Offset()
	v.SVM = &SVM{VMCB: r.value(at, f.VMCB), VMCB01: r.value(at, f.VMCB01), VMCB02: r.value(at, f.VMCB02), VMCB12: r.value(at, f.VMCB12)}
	v.Nested = r.value(at, f.Current) == at+f.In02.Offset()
	return errors.WithMessagef(r.err, "vCPU at %#x", v.Addr)
}
