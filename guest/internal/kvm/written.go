package kvm

import (
	"reflect"

	"vmcsnote/linux"
)

// Written has KVM's copies of what it wrote to a vCPU's VMCS, or read from it.
// The constants below are its indexes. Unknown values are zero.
type Written struct {
	Values [NumWritten]uint64
	// Segments are ES, CS, SS, DS, FS, GS, LDTR and TR.
	Segments [8]Segment
}

// Indexes of Written.Values. Those up to Posted are KVM's members, in the order
// of fields.written.
const (
	HostCR3 = iota
	HostCR4
	HostFSBase
	HostGSBase
	HostRSP
	Pin
	Exec
	Secondary
	Tertiary
	Entry
	Exit
	VPID
	TSCOffset
	TSCRatio
	CR0Mask // bits that are KVM's, not the guest's
	CR4Mask
	PAT
	Root   // the first of the tables for guest-physical addresses; without EPT for virtual ones
	RFLAGS // if Regs.Avail has RegRFLAGS
	VM86   // not 0: the guest is in real mode, the processor in virtual-8086 mode
	ExitReason
	ExitIntrInfo  // if Regs.Avail has RegExitInfo2
	Qualification // if it has RegExitInfo1
	IDTVectoring
	cached // which parts of segments KVM has read

	// Physical addresses.
	MSRBitmap
	VirtualAPIC
	EntryLoad // MSRs that VM entry loads
	ExitLoad  // MSRs that VM exit loads
	Posted    // the descriptor of posted interrupts

	HostRIP         // where KVM goes on after a VM exit
	HostSysenterEIP // the kernel's entry for SYSENTER
	NumWritten
)

// A Segment is KVM's copy of a segment register: selector, base, limit and
// access rights. Have tells which of these KVM has read, in bits 0 to 3.
type Segment struct {
	Parts [4]uint64
	Have  uint8
}

// segmentOrder is where segment_cache has the segments: it has TR before LDTR.
var segmentOrder = [8]uint64{0, 1, 2, 3, 4, 5, 7, 6}

// Written returns what KVM keeps of the VMCS in use. It is false if the types
// of kvm_intel are not known.
func (v *VCPU) Written() (w Written, ok bool) {
	f := &v.m.v.fields.written
	if v.VMX == nil || !f.HostCR3.Valid() {
		return w, false
	}
	at := v.Addr - v.m.v.fields.vmx.VCPU.Offset()
	r := reader{k: v.m.v.k}
	members := reflect.ValueOf(f).Elem()
	for i := range w.Values {
		switch {
		case i <= VirtualAPIC:
			w.Values[i] = r.optional(at, *members.Field(i).Addr().Interface().(*linux.Field))
		case i <= Posted: // inside struct vcpu_vmx
			if f := members.Field(i).Addr().Interface().(*linux.Field); f.Valid() {
				w.Values[i] = at + f.Offset()
			}
		}
	}
	for i := MSRBitmap; i <= Posted; i++ {
		var err error
		if w.Values[i], _, err = r.k.Phys(w.Values[i]); err != nil {
			w.Values[i] = 0
		}
	}
	w.Values[CR0Mask], w.Values[CR4Mask] = ^w.Values[CR0Mask], ^w.Values[CR4Mask] // KVM keeps the guest's
	w.Values[HostRIP], w.Values[HostSysenterEIP] = v.m.v.exitPoint, v.m.v.sysenter
	if v.Regs.Avail>>RegSegments&1 == 0 { // KVM has yet to clear the bitmask
		return w, true
	}
	for i, n := range segmentOrder {
		at := at + n*f.Segments.Stride
		for j := range w.Segments[i].Parts {
			w.Segments[i].Parts[j] = r.optional(at, *members.Field(int(Posted) + 1 + j).Addr().Interface().(*linux.Field))
		}
		w.Segments[i].Have = uint8(w.Values[cached] >> (4 * n) & 15)
	}
	return w, true
}
