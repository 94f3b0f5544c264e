package guest

import (
	"iter"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// Bits of a page table entry that Linux gives a meaning
// (arch/x86/include/asm/pgtable_types.h).
const (
	pteProtNone = 1 << 8 // where the entry is not present; G otherwise
	pteErratum  = 3 << 5 // A and D, which a Xeon Phi sets in entries that are not present
)

// Process is the user half of a process's address space in the host, by its page
// tables. It is safe for concurrent use.
type Process struct {
	tables *x86.Tables
}

// NewProcess takes a VMCS's HOST_CR3 and HOST_CR4; r is the host's memory. It
// reads nothing.
//
// With page-table isolation HOST_CR3 is the kernel's table of the pair, which
// maps user memory as well. Its PCID (bits 11:0) and LAM bits are left aside.
func NewProcess(r physmem.Reader, cr3, cr4 uint64) *Process {
	levels := 4
	if cr4&x86.CR4LA57 != 0 {
		levels = 5
	}
	format := &x86.Format{Name: "process page table", Levels: levels, Width: 8, Decode: decodeLinux}
	return &Process{x86.NewTables(r, format, cr3&x86.AddrMask)}
}

// decodeLinux reads an entry as Linux's memory management does, to which a page
// is there that the processor may not access.
func decodeLinux(level int, entry uint64) (addr uint64, leaf bool, err error) {
	addr = entry & x86.AddrMask
	large := level > 1 && entry&x86.Large != 0
	switch {
	case entry&^pteErratum == 0:
		return 0, false, ErrNotMapped
	case entry&x86.Present != 0:
	case entry&pteProtNone != 0 || large:
		// PROT_NONE, NUMA hinting, or a huge page being split. Since 4.19
		// (L1TF) the address is stored inverted; no memory is so high that
		// bit 51 leaves a doubt.
		if addr>>51 != 0 {
			addr ^= x86.AddrMask
		}
	default:
		return 0, false, ErrSwapped
	}
	switch {
	case level > 1 && !large:
		return addr, false, nil
	case level > 3:
		return 0, false, ErrReserved
	}
	return addr &^ (x86.Cover(level) - 1), true, nil // bit 12 of a large page is PAT
}

// userEnd is the first address that is not in the user half.
func (p *Process) userEnd() uint64 { return p.tables.Format().Size() / 2 }

// Translate finds what maps hva. The error is [ErrNotMapped], or an
// [*EntryError] with [ErrSwapped], [ErrReserved] or what the reader said of a
// table; the mapping is then the stretch it holds for.
func (p *Process) Translate(hva uint64) (Mapping, error) {
	if end := p.userEnd(); hva >= end {
		return Mapping{Addr: end, Size: -end}, ErrNotMapped
	}
	return p.tables.Translate(hva)
}

// Mappings gives all user mappings in order of address, and what is swapped
// out or cannot be followed with an [*EntryError] for the stretch concerned. It
// is bounded as [EPT.Mappings] is.
func (p *Process) Mappings() iter.Seq2[Mapping, error] {
	return p.tables.MappingsIn(0, p.userEnd()-1)
}
