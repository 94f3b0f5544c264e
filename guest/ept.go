package guest

import (
	"iter"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// EPT is a tree of extended page tables. It is safe for concurrent use.
type EPT struct {
	tables *x86.Tables
}

// NewEPT returns the tables that eptp, a VMCS's EPT_POINTER, refers to; r is
// the host's memory. It reads nothing. With modeBased (mode-based execute
// control, bit 22 of SECONDARY_VM_EXEC_CONTROL) an entry that has only bit 10
// set is present. The error wraps [ErrBadEPTP].
func NewEPT(r physmem.Reader, eptp x86.EPTP, modeBased bool) (*EPT, error) {
	memoryType, levels := eptp.MemoryType(), eptp.Levels()
	switch {
	case memoryType != 0 && memoryType != 6:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: memory type (bits 2:0) is %d, not 0 or 6", uint64(eptp), memoryType)
	case levels != 4 && levels != 5:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: %d levels (bits 5:3, less one), not 4 or 5", uint64(eptp), levels)
	case eptp.Reserved():
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: reserved bits (11:8, 63:52) are set", uint64(eptp))
	}
	return &EPT{x86.NewTables(r, x86.EPT(levels, modeBased), eptp.Root())}, nil
}

// Root returns the highest table's address in the host's physical memory.
func (e *EPT) Root() uint64 { return e.tables.Root() }

// Translate finds what maps gpa. The error is [ErrNotMapped], or an
// [*EntryError] with [ErrMMIO], [ErrReserved] or the reader's error for a
// table; the mapping is then the stretch it holds for.
func (e *EPT) Translate(gpa uint64) (Mapping, error) {
	m, err := e.tables.Translate(gpa)
	if err == ErrNotCanonical { // beyond what the tables can map
		err = ErrNotMapped
	}
	return m, err
}

// Mappings returns all mappings in order of address, and MMIO and whatever
// cannot be followed with an [*EntryError] for the stretch concerned. Its time
// and memory are bounded: it reads 4 Mi tables at most, after which it ends
// with [ErrTooManyTables], and it does not follow a table again that it met
// before.
func (e *EPT) Mappings() iter.Seq2[Mapping, error] { return e.tables.Mappings() }
