package x86

// Bits of a segment's access rights, as a VMCS has them (SDM volume 3, "Guest
// Register State"): bits 55:40 of the descriptor, and one for a segment that is
// not loaded.
const (
	RightsType     = 0xf
	RightsCodeData = 1 << 4 // S
	RightsPresent  = 1 << 7
	RightsLong     = 1 << 13 // L
	rightsBig      = 1 << 14 // D/B
	RightsUnusable = 1 << 16
)

// A SegmentState is a segment register with its hidden part.
type SegmentState struct {
	Name     string // ES, CS, SS, DS, FS, GS, LDTR or TR
	Selector uint16
	Base     uint64
	Limit    uint32 // in bytes, the last one that there is
	Rights   uint32 // RightsType and so on
}

// SegmentNames are the names of segments, in the order in which VMCS and VMCB
// number them, but for the VMCB's LDTR and TR.
var SegmentNames = [...]string{"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"}

// Usable is false for a segment that is not loaded.
func (s SegmentState) Usable() bool { return s.Rights&RightsUnusable == 0 }

var (
	dataTypes   = [...]string{"r", "rw", "r-down", "rw-down"}
	codeTypes   = [...]string{"x", "rx", "x-conforming", "rx-conforming"}
	systemTypes = [...]string{1: "tss16", 2: "ldt", 3: "busy-tss16", 9: "tss", 11: "busy-tss", 15: ""}
)

// RightsText puts access rights into words, such as "rx 64-bit dpl0": what may
// be done with the segment, the size of its code, its privilege level.
func RightsText(r uint32) string {
	if r&RightsUnusable != 0 {
		return "unusable"
	}
	typ := r & RightsType
	var s string
	switch {
	case r&RightsCodeData == 0:
		if s = systemTypes[typ]; s == "" {
			s = "system-" + string("0123456789abcdef"[typ])
		}
	case typ&8 != 0:
		s = codeTypes[typ>>1&3]
		switch {
		case r&RightsLong != 0:
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
	if r&RightsPresent == 0 {
		s += " absent"
	}
	return s
}
