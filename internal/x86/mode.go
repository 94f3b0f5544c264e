package x86

// A Mode is what a processor runs in.
type Mode uint8

const (
	ModeUnknown       Mode = iota // something is missing that tells
	ModeReal                      // real-address mode
	ModeVirtual8086               // virtual-8086 mode
	ModeProtected                 // protected mode, with 32-bit paging or none
	ModePAE                       // protected mode with PAE paging
	ModeLong                      // IA-32e mode, 64-bit code
	ModeCompatibility             // IA-32e mode, 16-bit or 32-bit code
)

var modeNames = [...]string{"unknown", "real", "virtual-8086", "protected", "PAE", "long", "compatibility"}

// String names the mode.
func (m Mode) String() string { return modeNames[m] }

// ModeOf returns the mode that registers mean. long is EFER.LMA, code64 the bit
// L of CS.
func ModeOf(cr0, cr4, rflags uint64, long, code64 bool) Mode {
	switch {
	case cr0&CR0PE == 0:
		return ModeReal
	case long && code64:
		return ModeLong
	case long:
		return ModeCompatibility
	case rflags&rflagsVM != 0:
		return ModeVirtual8086
	case cr0&CR0PG != 0 && cr4&CR4PAE != 0:
		return ModePAE
	}
	return ModeProtected
}
