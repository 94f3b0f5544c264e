// Package vmcs knows the VMCS (Virtual Machine Control Structure), the page in
// which an Intel processor keeps the state of one virtual CPU.
//
// What a VMCS holds is architecture: every field has an encoding, and the
// encoding says how wide the field is and what it is for (Encoding, Field).
// Where in the page a field lies is the processor's own affair, undocumented
// and different between generations. A Layout is that knowledge for one
// VMCS revision identifier. It comes
//
//   - from a VMCSINFO note in one of its published forms (ParseNote),
//   - from the files that later versions of the 2012 kernel patches put into
//     sysfs (ParseDir),
//   - from the tables of published layouts built into the program (Builtin).
//
// Find looks through memory for the pages that are VMCSs: by the revision
// identifier they begin with, and by what the processor demands of a VMCS
// before it enters a guest and what the page leads to, since most pages that
// begin so are none. A VMCS it finds gives its fields as VMREAD would
// (VMCS.Read by encoding, such as HostCR3, and VMCS.Field by name), and what
// they say in words: the guest's mode, its segments, why it was left
// (ExitReason), the bits of controls (FieldBits).
//
// Notes are read out of crash dumps, so a parser here takes what can be
// believed and says what cannot: trouble with one field drops the field and
// leaves a line in Layout.Warnings; an error is returned, and no layout, where
// nothing can be believed or where two readings are possible.
package vmcs

const (
	// PageSize is the most a VMCS region takes, in bytes (IA32_VMX_BASIC
	// bits 44:32 give 4096 at most), and what its address is aligned to.
	PageSize = 4096

	// headerSize is what precedes the fields: the revision identifier with
	// the shadow-VMCS indicator, and the VMX-abort indicator, 4 bytes each.
	headerSize = 8

	// maxRevisionID is the largest revision identifier; bit 31 of the first
	// word marks a shadow VMCS.
	maxRevisionID = 1<<31 - 1
)
