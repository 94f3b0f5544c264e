package guest

import (
	"fmt"

	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// Origin says where a register's value was taken from.
type Origin uint8

const (
	// FromNowhere: no value. Its bits are zero and mean nothing.
	FromNowhere Origin = iota
	// FromVMCS: a guest-state field of the VMCS.
	FromVMCS
	// FromKVM: KVM's structure of the vCPU in the host's memory.
	FromKVM
	// FromKVMDirty: the same, and by its regs_dirty newer than the VMCS, which
	// KVM would have updated on the next VM entry.
	FromKVMDirty
	// FromAPIC: the virtual-APIC page.
	FromAPIC
	// FromVMCB: the state save area of the VMCB, on AMD's processors.
	FromVMCB
	// FromSaved: as FromVMCS, and the value is what VMREAD returned when the
	// host crashed, which its kernel saved.
	FromSaved
)

var originNames = [...]string{"unknown", "vmcs", "kvm", "kvm-dirty", "apic", "vmcb", "vmread"}

// String names the origin, for people and for --json.
func (o Origin) String() string { return originNames[o] }

// A Register is a register's value, if Origin is not FromNowhere.
type Register struct {
	Value  uint64
	Origin Origin
}

// Known reports whether the register has a value.
func (r Register) Known() bool { return r.Origin != FromNowhere }

// String returns the value in hexadecimal, or "?" if it is unknown.
func (r Register) String() string {
	if !r.Known() {
		return "?"
	}
	return fmt.Sprintf("%#x", r.Value)
}

// The general registers in GPR, as the processor numbers them, and KVM after it
// (enum kvm_reg).
const (
	RAX = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
)

// GPRNames are the names of the general registers, in the order of GPR.
var GPRNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

// The segment registers in Seg, in the order of the VMCS's encodings.
const (
	ES = iota
	CS
	SS
	DS
	FS
	GS
	LDTR
	TR
)

// SegNames are the names of the segment registers, in the order of Seg.
var SegNames = x86.SegmentNames

// A SegmentRegister is a segment register with its hidden part; of GDTR and
// IDTR, base and limit.
type SegmentRegister struct {
	Selector, Base, Limit Register
	Rights                Register // as VMREAD returns them; bit 16: unusable
}

// Registers is the state of one vCPU, as far as it is known.
type Registers struct {
	GPR                [16]Register
	RIP, RFLAGS        Register
	CR0, CR4           Register // as the guest sees them: mask and read shadow applied
	CR2, CR3, CR8      Register
	EFER, KernelGSBase Register
	SysenterEIP        Register
	Seg                [8]SegmentRegister
	GDTR, IDTR         SegmentRegister

	// LongMode is IA32_EFER.LMA, by VM_ENTRY_CONTROLS bit 9.
	LongMode bool
	// APICID is the vCPU's number, by its virtual-APIC page.
	APICID Register
	// Evidence is how KVM's structure was found.
	Evidence Evidence
}

// RegistersIn returns the registers that the VMCS itself holds.
func RegistersIn(v *vmcs.VMCS) *Registers {
	origin := FromVMCS
	if v.Layout.Form == vmcs.FormSaved {
		origin = FromSaved
	}
	get := func(e vmcs.Encoding) Register {
		if x, ok := v.Read(e); ok {
			return Register{x, origin}
		}
		return Register{}
	}
	r := &Registers{
		RIP: get(vmcs.GuestRIP), RFLAGS: get(vmcs.GuestRFLAGS),
		GDTR:        SegmentRegister{Base: get(vmcs.GuestGDTRBase), Limit: get(vmcs.GuestGDTRLimit)},
		SysenterEIP: get(vmcs.GuestSysenterEIP),
		IDTR:        SegmentRegister{Base: get(vmcs.GuestIDTRBase), Limit: get(vmcs.GuestIDTRLimit)},
	}
	if cr0, ok := v.GuestCR0(); ok {
		r.CR0 = Register{cr0, origin}
	}
	if cr4, ok := v.GuestCR4(); ok {
		r.CR4 = Register{cr4, origin}
	}
	r.GPR[RSP] = get(vmcs.GuestRSP)
	for i := range r.Seg {
		e := vmcs.Encoding(2 * i)
		s := &r.Seg[i]
		s.Selector, s.Base, s.Limit = get(vmcs.GuestESSelector+e), get(vmcs.GuestESBase+e), get(vmcs.GuestESLimit+e)
		if v.Layout.AccessRights != vmcs.RightsUnknown {
			s.Rights = get(vmcs.GuestESARBytes + e)
		}
	}
	entry, _ := v.Read(vmcs.VMEntryControls)
	r.LongMode = entry&x86.EntryIA32e != 0
	if efer, ok := v.GuestEFER(); ok {
		r.EFER = Register{efer, origin}
	}
	if v.OwnCR3() {
		r.CR3 = get(vmcs.GuestCR3)
	}
	if cr0, _ := v.Read(vmcs.GuestCR0); r.CR0.Known() && cr0&^r.CR0.Value&x86.CR0PE != 0 {
		r.leaveVM86()
	}
	return r
}

// leaveVM86 removes what KVM adds when it runs a real-mode guest in
// virtual-8086 mode, on processors without unrestricted guests (enter_rmode and
// fix_rmode_seg in vmx.c): RFLAGS.VM and IOPL, which is of no use in real mode;
// the segments' access rights; the hidden part of TR.
func (r *Registers) leaveVM86() {
	const vm, iopl = 1 << 17, 3 << 12
	r.RFLAGS.Value &^= vm | iopl
	for i := range r.Seg {
		if i != LDTR {
			r.Seg[i].Rights = Register{}
		}
	}
	r.Seg[TR].Base, r.Seg[TR].Limit = Register{}, Register{}
}
