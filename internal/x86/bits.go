package x86

// Bits of control registers, EFER and RFLAGS (SDM volume 3, "Control
// Registers" and "Extended Feature Enable Register").
const (
	CR0PE = 1 << 0
	CR0NE = 1 << 5
	CR0WP = 1 << 16
	CR0NW = 1 << 29
	CR0CD = 1 << 30
	CR0PG = 1 << 31

	CR3LAM = 3 << 61 // linear-address masking

	CR4PSE  = 1 << 4
	CR4PAE  = 1 << 5
	CR4MCE  = 1 << 6
	CR4UMIP = 1 << 11
	CR4LA57 = 1 << 12
	CR4VMXE = 1 << 13

	EFERLME  = 1 << 8
	EFERLMA  = 1 << 10
	EFERSVME = 1 << 12

	rflagsVM = 1 << 17
)

// Bits of the controls of a VMCS (SDM volume 3, "VM-Execution Control Fields",
// "VM-Exit Control Fields" and "VM-Entry Control Fields").
const (
	PinPostedInterrupts = 1 << 7 // of PIN_BASED_VM_EXEC_CONTROL

	CPUTSCOffsetting = 1 << 3 // of CPU_BASED_VM_EXEC_CONTROL
	CPUTertiary      = 1 << 17
	CPUTPRShadow     = 1 << 21
	CPUMSRBitmaps    = 1 << 28
	CPUSecondary     = 1 << 31

	SecondaryAPICAccesses     = 1 << 0 // of SECONDARY_VM_EXEC_CONTROL
	SecondaryEPT              = 1 << 1
	SecondaryVPID             = 1 << 5
	SecondaryUnrestricted     = 1 << 7
	SecondaryModeBasedExecute = 1 << 22
	SecondaryTSCScaling       = 1 << 25

	ExitHost64   = 1 << 9 // of VM_EXIT_CONTROLS
	ExitLoadEFER = 1 << 21

	EntryIA32e    = 1 << 9 // of VM_ENTRY_CONTROLS
	EntryLoadPAT  = 1 << 14
	EntryLoadEFER = 1 << 15
)

// PagesLevels returns the number of levels of the page tables in long mode, by
// CR4.LA57.
func PagesLevels(cr4 uint64) int {
	if cr4&CR4LA57 != 0 {
		return 5
	}
	return 4
}

// Canonical reports whether addr is a virtual address of a processor with the
// given number of address bits, 48 or 57: all bits from the highest on are
// equal.
func Canonical(addr uint64, bits int) bool {
	shift := 64 - bits
	return uint64(int64(addr<<shift)>>shift) == addr
}
