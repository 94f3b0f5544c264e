// Package guest finds the virtual machines of a crashed host in its dump, their
// registers and their memory.
//
// A [Host] is the dump. [Host.FindMachines] asks KVM's own structures in it for
// the machines, and searches for VMCSs if the kernel does not tell; it chooses
// the layout of VMCSs and numbers machines and vCPUs. [Host.FindRegisters]
// finds the registers that are in no VMCS. [Machine.Memory] and
// [Machine.Virtual] open a machine's memory, [Extraction] writes it as a dump
// of its own.
//
// Four kinds of addresses meet here: those that the guest's programs use
// (GVA), those that the guest takes for physical (GPA), those of the process
// that runs the guest (HVA), and the host's physical ones (HPA), by which the
// dump is read:
//
//   - [Machine.Virtual] turns GVA into GPA by the guest's own page tables, in
//     whichever mode CR0, CR4 and EFER select.
//   - EPT turns GPA into HPA by the tables that EPT_POINTER points to, or on
//     AMD's processors nested_cr3.
//   - [Process] turns HVA into HPA by the page tables that HOST_CR3 points to,
//     as Linux fills them.
//   - [Physical] is the guest's physical memory as a whole: what EPT maps, and
//     what EPT does not map, because the guest has never touched it, through
//     the process, by memory slots ([Slot]): KVM's own, or slots inferred from
//     pages that both map. Without EPT and without KVM's slots, the tables that
//     KVM runs the guest on lead to its memory.
//
// Everything comes from a dump and is hostile: tables may point to themselves,
// beyond memory, or be noise. The levels bound a walk down; a budget of tables
// bounds an iteration over all entries, which also skips a table that it has
// met elsewhere.
package guest

import (
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
)

const pageSize = x86.PageSize

var (
	// ErrNotMapped: there is no entry for the address. In EPT the guest has not
	// touched it, or has no memory there. In [Physical] no known memory slot
	// covers it, either.
	ErrNotMapped = x86.ErrNotMapped
	// ErrNotPresent: the address is in a memory slot, but the process has no
	// page there: neither the guest nor its VMM ever touched it, or
	// the VMM gave it back (balloon).
	ErrNotPresent = errors.New("never touched")
	// ErrSwapped: the page was not in memory but in the host's swap, or on
	// its way from one place in memory to another.
	ErrSwapped = linux.ErrSwapped
	// ErrMMIO: EPT's entry is misconfigured on purpose. KVM does so for addresses
	// whose accesses it emulates, so that they cause VM exits.
	ErrMMIO = x86.ErrMMIO
	// ErrReserved: an entry has bits set that must be zero.
	ErrReserved = x86.ErrReserved
	// ErrTableAgain: an entry points to a table that was read before, at another
	// address.
	ErrTableAgain = x86.ErrTableAgain
	// ErrTooManyTables: an iteration ended because it had read as many tables as
	// it may.
	ErrTooManyTables = x86.ErrTooManyTables
	// ErrNotCanonical: no table can map this virtual address.
	ErrNotCanonical = x86.ErrNotCanonical
	// ErrBadEPTP: EPT_POINTER is one that no VM entry accepts.
	ErrBadEPTP = errors.New("not an EPT_POINTER")
	// ErrNoEPT: the guest runs on shadow page tables, nothing in its VMCS leads to
	// its physical memory, and no memory was found that is provably the guest's.
	ErrNoEPT = errors.New("guest without EPT: its guest-physical memory was not found")
	// ErrNoKVM: the host's kernel does not have KVM.
	ErrNoKVM = kvm.ErrNoKVM
	// ErrNeverRan: KVM sets EPT_POINTER when a vCPU first runs, and none has.
	ErrNeverRan = errors.New("none of the guest's vCPUs has run yet: no EPT leads to its memory")
)

// An EntryError is a paging-structure entry that cannot be followed. Its Err is
// a sentinel of this package, or the reader's error.
type EntryError = x86.EntryError

// A Mapping is a stretch of addresses that one entry maps, or leaves unmapped.
type Mapping = x86.Mapping

// An AddressError is a read of a guest's memory that stopped.
type AddressError struct {
	Space string // "guest-physical" or "guest-virtual"
	Addr  uint64 // of the first byte not read
	Err   error  // why
}

// Error names the address and the reason.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s address %#x: %v", e.Space, e.Addr, e.Err)
}

// Unwrap returns the reason.
func (e *AddressError) Unwrap() error { return e.Err }
