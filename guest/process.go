package guest

import (
	"iter"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// Process is the user half of a process's address space in the host, by its
// page tables. It is safe for concurrent use.
type Process struct {
	tables *x86.Tables
}

// NewProcess takes a VMCS's HOST_CR3 and HOST_CR4; r is the host's memory. It
// reads nothing.
//
// With page-table isolation HOST_CR3 is the kernel's table of the pair, which
// maps user memory as well. Its PCID (bits 11:0) and LAM bits are left aside.
func NewProcess(r physmem.Reader, cr3, cr4 uint64) *Process {
	return &Process{x86.NewTables(r, linux.UserPages(x86.PagesLevels(cr4)), cr3&x86.AddrMask)}
}

// reopen returns the process with a cache of its own.
func (p *Process) reopen() infer.Process { return &Process{p.tables.Reopen()} }

// End is the first address that is not in the user half.
func (p *Process) End() uint64 { return p.tables.Format().Size() / 2 }

// Translate finds what maps hva. The error is [ErrNotMapped], or an
// [*EntryError] with [ErrSwapped], [ErrReserved] or the reader's error for a
// table; then the mapping is the stretch for which the error holds.
func (p *Process) Translate(hva uint64) (Mapping, error) {
	if end := p.End(); hva >= end {
		return Mapping{Addr: end, Size: -end}, ErrNotMapped
	}
	return p.tables.Translate(hva)
}

// Mappings returns all user mappings in order of address, and what is swapped
// out or cannot be followed with an [*EntryError] for the stretch concerned.
// Its time and memory are bounded: it reads 4 Mi tables at most, after which it
// ends with [ErrTooManyTables], and it does not follow a table again that it
// met before.
func (p *Process) Mappings() iter.Seq2[Mapping, error] {
	return p.tables.MappingsIn(0, p.End()-1)
}
