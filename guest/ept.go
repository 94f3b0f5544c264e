package guest

import (
	"iter"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// eptTables is a tree of extended page tables. It is safe for concurrent use.
type eptTables struct {
	tables *x86.Tables
}

// newEPT returns the tables that eptp, a VMCS's EPT_POINTER, refers to; r is
// the host's memory. It reads nothing. With modeBased (mode-based execute
// control, bit 22 of SECONDARY_VM_EXEC_CONTROL) an entry that has only bit 10
// set is present. The error wraps [ErrBadEPTP].
func newEPT(r physmem.Reader, eptp x86.EPTP, modeBased bool) (*eptTables, error) {
	memoryType, levels := eptp.MemoryType(), eptp.Levels()
	switch {
	case memoryType != 0 && memoryType != 6:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: memory type (bits 2:0) is %d, not 0 or 6", uint64(eptp), memoryType)
	case levels != 4 && levels != 5:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: %d levels (bits 5:3, less one), not 4 or 5", uint64(eptp), levels)
	case eptp.Reserved():
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: reserved bits (11:8, 63:52) are set", uint64(eptp))
	}
	return &eptTables{x86.NewTables(r, x86.EPT(levels, modeBased), eptp.Root())}, nil
}

// Translate finds what maps gpa. The error is [ErrNotMapped], or an
// [*EntryError] with [ErrMMIO], [ErrReserved] or the reader's error for a
// table; the mapping is then the stretch it holds for.
func (e *eptTables) Translate(gpa uint64) (Mapping, error) {
	m, err := e.tables.Translate(gpa)
	if err == ErrNotCanonical { // beyond what the tables can map
		err = ErrNotMapped
	}
	return m, err
}

// Mappings returns all mappings in order of address, and MMIO and whatever
// cannot be followed with an [*EntryError] for the stretch concerned. It is
// bounded as [Process.Mappings] is.
func (e *eptTables) Mappings() iter.Seq2[Mapping, error] { return e.tables.Mappings() }
