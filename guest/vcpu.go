package guest

import (
	"vmcsnote/guest/internal/kvm"
	"vmcsnote/svm"
	"vmcsnote/vmcs"
)

// A VCPU is a virtual CPU of a machine. If it was found by its VMCS alone, the
// fields that only KVM's structures tell are zero.
type VCPU struct {
	// Candidate is its VMCS, nil if there is none: on AMD's processors, without
	// a layout, or if the page is not in the dump. Ask HasVMCS first.
	*vmcs.Candidate
	Number int        // in its machine, from 0
	Regs   *Registers // nil until [Host.FindRegisters]

	// Vendor is whose processor runs it.
	Vendor Vendor
	// TID is the thread that ran it last, Thread its name ("CPU 0/KVM"); 0 and
	// "" if none did, or if that is unknown.
	TID    int
	Thread string
	// HostCPU is the host's processor on which it ran last, -1 if on none, or
	// if that is unknown.
	HostCPU int
	// State is where it was: "guest", "halted", "waiting" (never started, or
	// stopped), "preempted", "host", "vmm"; "" if unknown.
	State string
	// VMCSAddr is the physical address of the VMCS in use, whether or not it
	// could be read; 0 on AMD's processors.
	VMCSAddr uint64
	// VMCB is the physical address of the VMCB in use; 0 on Intel's. SVM is
	// what it holds, nil if it could not be read.
	VMCB uint64
	SVM  *svm.VMCB

	neverRan bool // no thread has run it
	from     *kvm.VCPU
}

// A Vendor is whose virtualization a machine uses.
type Vendor uint8

const (
	UnknownVendor Vendor = iota
	Intel
	AMD
)

var vendorNames = [...]string{"", "Intel", "AMD"}

// String names the vendor; "" if it is unknown.
func (v Vendor) String() string { return vendorNames[v] }

// HasVMCS reports whether the vCPU's VMCS was read.
func (v *VCPU) HasVMCS() bool { return v.Candidate != nil }

// RIP returns the instruction pointer: KVM's, if that is newer, once
// registers were found.
func (v *VCPU) RIP() Register {
	switch {
	case v.Regs != nil:
		return v.Regs.RIP
	case v.HasVMCS():
		return RegistersIn(&v.VMCS).RIP
	}
	return Register{}
}

// Mode returns the mode that the guest runs in.
func (v *VCPU) Mode() vmcs.Mode {
	if v.HasVMCS() {
		if mode := v.Candidate.Mode(); mode != vmcs.ModeUnknown {
			return mode
		}
	}
	if v.Regs != nil {
		return v.Regs.mode()
	}
	return vmcs.ModeUnknown
}

// ModeEmulated is [vmcs.VMCS.ModeEmulated].
func (v *VCPU) ModeEmulated() bool { return v.HasVMCS() && v.Candidate.ModeEmulated() }

// NeverExited reports whether the vCPU never ran, as far as is known.
func (v *VCPU) NeverExited() bool {
	return v.neverRan || v.HasVMCS() && v.Candidate.NeverExited() || v.SVM != nil && v.SVM.NeverRan()
}

// LastExit says why the guest was left last; false if that is unknown, or if
// it never ran.
func (v *VCPU) LastExit() (string, bool) {
	switch {
	case v.NeverExited():
		return "", false
	case v.SVM != nil:
		return v.SVM.ExitReason(), true
	case !v.HasVMCS():
		return "", false
	}
	reason, ok := v.Candidate.Read(vmcs.VMExitReason)
	if !ok {
		return "", false
	}
	return vmcs.ExitReason(uint32(reason)), true
}

// VPID is [vmcs.VMCS.VPID].
func (v *VCPU) VPID() (uint16, bool) {
	if v.HasVMCS() {
		return v.Candidate.VPID()
	}
	return 0, false
}

// Field returns the value of a field of the VMCS ([vmcs.VMCS.Field]) or VMCB
// ([svm.FieldByName]).
func (v *VCPU) Field(name string) (uint64, bool) {
	switch {
	case v.HasVMCS():
		return v.Candidate.Field(name)
	case v.SVM != nil:
		f, ok := svm.FieldByName(name)
		if !ok || f.Save() && v.SVM.Encryption() >= svm.SEVES { // the host's
			return 0, false
		}
		return v.SVM.Read(f), true
	}
	return 0, false
}

// Read is [vmcs.VMCS.Read].
func (v *VCPU) Read(e vmcs.Encoding) (uint64, bool) {
	if v.HasVMCS() {
		return v.Candidate.Read(e)
	}
	return 0, false
}
