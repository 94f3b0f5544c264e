package vmcs

import "vmcsnote/internal/x86"

const (
	segCS   = 1
	segSS   = 2
	segLDTR = 6
	segTR   = 7
)

const rightsReserved = 0xfffe0f00

// validRights reports whether VM entry accepts the access rights for segment i
// of x86.SegmentNames.
func validRights(i int, r uint32) bool {
	if r&rightsReserved != 0 {
		return false
	}
	if r&x86.RightsUnusable != 0 {
		return i != segCS && i != segTR
	}
	if r&x86.RightsPresent == 0 {
		return false
	}
	code := r&x86.RightsCodeData != 0
	switch typ := r & x86.RightsType; i {
	case segLDTR:
		return !code && typ == 2
	case segTR:
		return !code && (typ == 3 || typ == 11)
	case segCS:
		return code && (typ == 3 || typ&9 == 9)
	case segSS:
		return code && (typ == 3 || typ == 7)
	default: // accessed, and readable where it is code
		return code && typ&1 != 0 && (typ&8 == 0 || typ&2 != 0)
	}
}

// A SegmentState is one of the guest's segment registers, with its hidden part.
type SegmentState = x86.SegmentState

// Segments returns those of the guest's segments whose four fields are all in
// the layout.
func (v *VMCS) Segments() []SegmentState {
	var segments []SegmentState
	for i, name := range x86.SegmentNames {
		e := Encoding(2 * i)
		selector, ok1 := v.Read(GuestESSelector + e)
		base, ok2 := v.Read(GuestESBase + e)
		limit, ok3 := v.Read(GuestESLimit + e)
		rights, ok4 := v.Read(GuestESARBytes + e)
		if ok1 && ok2 && ok3 && ok4 {
			segments = append(segments, SegmentState{Name: name, Selector: uint16(selector), Base: base, Limit: uint32(limit), Rights: uint32(rights)})
		}
	}
	return segments
}

// RightsText puts access rights into words, such as "rx 64-bit dpl0": what may
// be done with the segment, the size of its code, its privilege level.
func RightsText(r uint32) string { return x86.RightsText(r) }
