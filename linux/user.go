package linux

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// ErrSwapped means that a page of user memory is not in memory: it was swapped
// out, or is on its way.
var ErrSwapped = x86.ErrSwapped

// UserMemory is the memory of a process by virtual address. It is not safe for
// concurrent use.
type UserMemory struct {
	mem    physmem.Reader
	tables *x86.Tables
	cache  pageCache
	end    uint64 // of user space
}

// UserMemory returns the user memory of an mm_struct.
func (k *Kernel) UserMemory(mm uint64) (*UserMemory, error) {
	f, err := k.taskFields()
	if err != nil {
		return nil, err
	}
	pgd, err := k.Value(mm, f.mm.PGD)
	if err != nil {
		return nil, err
	}
	root, _, err := k.Phys(pgd)
	if err != nil {
		return nil, errors.WithMessage(err, "mm_struct.pgd")
	}
	format := UserPages(k.levels)
	format.Encrypted = k.EncryptionMask()
	return &UserMemory{mem: k.mem, tables: x86.NewTables(k.mem, format, root), end: format.Size() / 2}, nil
}

// UserPages returns the format of a process's page tables of 4 or 5 levels, as
// Linux's memory management reads them: user memory that the processor may not
// access is mapped all the same.
func UserPages(levels int) *x86.Format {
	return &x86.Format{Name: "process page table", Levels: levels, Width: 8, Decode: decodeUser}
}

// Bits of a page table entry (arch/x86/include/asm/pgtable_types.h).
const (
	ptePresent  = 1 << 0
	pteLarge    = 1 << 7
	pteProtNone = 1 << 8 // of an entry that is not present
	pteErratum  = 3 << 5 // a Xeon Phi sets these in entries that are not present
)

// decodeUser reads an entry as Linux's memory management does, which knows
// pages that the processor may not access: PROT_NONE, NUMA hinting, a huge page
// being split. Their address is stored inverted since 4.19 (L1TF); no memory is
// so high that bit 51 leaves a doubt.
func decodeUser(level int, entry uint64) (addr uint64, leaf bool, err error) {
	huge := level > 1 && entry&pteLarge != 0
	addr = entry & x86.AddrMask
	switch {
	case entry&^pteErratum == 0:
		return 0, false, x86.ErrNotMapped
	case entry&ptePresent != 0:
	case entry&pteProtNone != 0 || huge:
		if addr>>51 != 0 {
			addr ^= x86.AddrMask
		}
	default:
		return 0, false, ErrSwapped
	}
	switch {
	case level > 1 && !huge:
		return addr, false, nil
	case level > 3:
		return 0, false, x86.ErrReserved
	}
	return addr &^ (x86.Cover(level) - 1), true, nil
}

// Tables returns the process's page tables. Besides user memory they map the
// kernel's.
func (u *UserMemory) Tables() *x86.Tables { return u.tables }

// phys translates a virtual address, as [Kernel.Phys] does.
func (u *UserMemory) phys(addr uint64) (phys, size uint64, err error) {
	if addr >= u.end {
		return 0, 0, &AddressError{addr, x86.ErrNotMapped}
	}
	return translate(u.tables, addr)
}

// Read fills p with memory at a virtual address. The error is an
// [*AddressError]; n bytes before it are good.
func (u *UserMemory) Read(p []byte, addr uint64) (n int, err error) {
	return readVirtual(p, addr, u.phys, &u.cache, u.mem)
}
