package vmcs

// The segments, in the order of their fields' encodings.
var segmentNames = [...]string{"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"}

const (
	segCS   = 1
	segSS   = 2
	segLDTR = 6
	segTR   = 7
)

// Bits of a segment's access rights (SDM volume 3, "Guest Register State").
const (
	rightsType     = 0xf
	rightsCodeData = 1 << 4 // S
	rightsPresent  = 1 << 7
	rightsLong     = 1 << 13 // L
	rightsBig      = 1 << 14 // D/B
	rightsUnusable = 1 << 16
	rightsReserved = 0xfffe0f00
)

// validRights reports whether access rights are such as VM entry accepts for
// segment i of segmentNames.
func validRights(i int, r uint32) bool {
	if r&rightsReserved != 0 {
		return false
	}
	if r&rightsUnusable != 0 {
		return i != segCS && i != segTR
	}
	if r&rightsPresent == 0 {
		return false
	}
	code := r&rightsCodeData != 0
	switch typ := r & rightsType; i {
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

// A Segment is one of the guest's segment registers, with its hidden part.
type Segment struct {
	Name     string // ES, CS, SS, DS, FS, GS, LDTR or TR
	Selector uint16
	Base     uint64
	Limit    uint32 // in bytes, the last one that there is
	Rights   uint32 // as VMREAD gives GUEST_*_AR_BYTES
}

// Segments gives the guest's segments, those of which the layout has all four
// fields.
func (v *VMCS) Segments() []Segment {
	var segments []Segment
	for i, name := range segmentNames {
		e := Encoding(2 * i)
		selector, ok1 := v.Read(GuestESSelector + e)
		base, ok2 := v.Read(GuestESBase + e)
		limit, ok3 := v.Read(GuestESLimit + e)
		rights, ok4 := v.Read(GuestESARBytes + e)
		if ok1 && ok2 && ok3 && ok4 {
			segments = append(segments, Segment{name, uint16(selector), base, uint32(limit), uint32(rights)})
		}
	}
	return segments
}

// Usable is false for a segment that the guest has not loaded.
func (s Segment) Usable() bool { return s.Rights&rightsUnusable == 0 }

var (
	dataTypes   = [...]string{"r", "rw", "r-down", "rw-down"}
	codeTypes   = [...]string{"x", "rx", "x-conforming", "rx-conforming"}
	systemTypes = [...]string{1: "tss16", 2: "ldt", 3: "busy-tss16", 9: "tss", 11: "busy-tss", 15: ""}
)

// RightsText puts access rights into words, such as "rx 64-bit dpl0": what may
// be done with the segment, the size of its code, its privilege level.
func RightsText(r uint32) string {
	if r&rightsUnusable != 0 {
		return "unusable"
	}
	typ := r & rightsType
	var s string
	switch {
	case r&rightsCodeData == 0:
		if s = systemTypes[typ]; s == "" {
			s = "system-" + string("0123456789abcdef"[typ])
		}
	case typ&8 != 0:
		s = codeTypes[typ>>1&3]
		switch {
		case r&rightsLong != 0:
			s += " 64-bit"
		case r&rightsBig != 0:
			s += " 32-bit"
		default:
			s += " 16-bit"
		}
	default:
		s = dataTypes[typ>>1&3]
	}
	s += " dpl" + string('0'+rune(r>>5&3))
	if r&rightsPresent == 0 {
		s += " absent"
	}
	return s
}
