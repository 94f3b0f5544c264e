// Package vmcs knows the VMCS (Virtual Machine Control Structure), the page in
// which an Intel processor keeps the state of one virtual CPU.
//
// The architecture defines what a VMCS holds: every field has an encoding,
// which says how wide the field is and what it is for (Encoding, Field). It
// does not define where in the page a field lies. That is undocumented and
// differs between generations of processors. A Layout has these places for one
// VMCS revision identifier. It comes
//
//   - from a VMCSINFO note in one of its published forms (ParseNote),
//   - from the files that later versions of the 2012 kernel patches put into
//     sysfs (ParseDir),
//   - from the tables of published layouts built into the program (Builtin).
//
// Find searches memory for pages that are VMCSs. Such a page begins with a
// revision identifier, but most pages that begin with one are no VMCSs. So Find
// also checks what the processor demands of a VMCS before it enters a guest,
// and what the page leads to. A VMCS returns its fields as VMREAD would
// (VMCS.Read by encoding, such as HostCR3, and VMCS.Field by name), and puts
// them into words: the guest's mode, its segments, why it was left
// (ExitReason), the bits of controls (FieldBits).
//
// Notes come from crash dumps, so the parsers keep what is consistent and
// report the rest: a field that is not consistent is left out, with a line in
// Layout.Warnings. They return an error, and no layout, if nothing is
// consistent or if two readings are possible.
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
