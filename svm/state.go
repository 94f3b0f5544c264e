package svm

import "vmcsnote/internal/x86"

// NestedPaging reports whether the guest's physical addresses are translated by
// the tables at nested_cr3. Otherwise it runs on the hypervisor's shadow page
// tables, which CR3 in the save area points to.
func (v *VMCB) NestedPaging() bool { return v.Read(NestedCtl)&nestedPaging != 0 }

// An Encryption says which parts of a guest the host cannot read.
type Encryption uint8

const (
	// NotEncrypted means that the host can read everything.
	NotEncrypted Encryption = iota
	// SEV means that the guest's memory is encrypted, but for the pages that it
	// shares with the host. Its registers are in the save area.
	SEV
	// SEVES means that the registers are encrypted as well: they are in another
	// page, at vmsa_pa. What the save area has is the host's.
	SEVES
	// SEVSNP means SEVES, and that the host cannot change the guest's memory
	// unnoticed.
	SEVSNP
)

// String names it as AMD does; it is "" if nothing is encrypted.
func (e Encryption) String() string { return [...]string{"", "SEV", "SEV-ES", "SEV-SNP"}[e] }

// Encryption returns what is encrypted of the guest, by nested_ctl. Only
// guest_sev_features tells SEV-SNP, and hypervisors fill that only if the
// processor is to check it: a guest that is SEVES by its VMCB may be SEVSNP.
func (v *VMCB) Encryption() Encryption {
	const valid, active = 1 << 63, 1 << 0
	switch ctl, features := v.Read(NestedCtl), v.Read(SEVFeatures); {
	case ctl&sevEnable == 0:
		return NotEncrypted
	case ctl&sevES == 0:
		return SEV
	case features&(valid|active) == valid|active:
		return SEVSNP
	}
	return SEVES
}

// Places of segment registers in segmentFields.
const (
	segCS   = 1
	segSS   = 2
	segGDTR = 6
	segLDTR = 7
	segIDTR = 8
	segTR   = 9
)

// Bits of a segment's attributes in the VMCB: bits 55:52 and 47:40 of the
// descriptor, next to each other.
const (
	attribPresent = 1 << 7
	attribLong    = 1 << 9
	attribBig     = 1 << 10
)

// rights returns attributes as a VMCS has them. A segment that is not present
// is not loaded: the VMCB has no bit for it.
func rights(attrib uint16) uint32 {
	r := uint32(attrib&0xff) | uint32(attrib&0xf00)<<4
	if attrib&attribPresent == 0 {
		r |= x86.RightsUnusable
	}
	return r
}

// Segments returns the guest's segment registers as KVM shows them to its
// process, in the order of [x86.SegmentNames]. VMRUN loads and stores CS, SS,
// DS and ES; VMLOAD and VMSAVE load and store the others, in the VMCB state.
// KVM uses the machine's own VMCB for that even while a guest of the machine
// runs. state may be v itself.
func (v *VMCB) Segments(state *VMCB) []x86.SegmentState {
	all := make([]x86.SegmentState, 0, len(x86.SegmentNames))
	for i, at := range []int{0, segCS, segSS, 3, 4, 5, segLDTR, segTR} {
		from := v
		if i > 3 {
			from = state
		}
		get := func(part string) uint64 { return from.Read(segmentField(at, part)) }
		s := x86.SegmentState{
			Name: x86.SegmentNames[i], Selector: uint16(get("selector")), Base: get("base"), Limit: uint32(get("limit")),
			Rights: rights(uint16(get("attrib"))),
		}
		// What AMD processors leave open, or store otherwise than the
		// descriptor has it: the accessed bit, a busy TSS, SS's DPL.
		switch {
		case at == segTR:
			s.Rights |= 1 << 1
		case !s.Usable() || at == segLDTR:
		case at == segSS:
			s.Rights = s.Rights&^0x60 | uint32(v.Read(CPL)&3)<<5
		case at != segCS:
			s.Rights |= 1
		}
		all = append(all, s)
	}
	return all
}

// Tables returns base and limit of GDTR and IDTR.
func (v *VMCB) Tables() (gdt, idt x86.SegmentState) {
	table := func(name string, at int) x86.SegmentState {
		return x86.SegmentState{Name: name, Base: v.Read(segmentField(at, "base")), Limit: uint32(v.Read(segmentField(at, "limit")))}
	}
	return table("GDTR", segGDTR), table("IDTR", segIDTR)
}
