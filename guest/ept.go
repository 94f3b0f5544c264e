package guest

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// newEPT returns the tables that eptp, a VMCS's EPT_POINTER, refers to; r is
// the host's memory. It reads nothing. With modeBased (mode-based execute
// control, bit 22 of SECONDARY_VM_EXEC_CONTROL) an entry that has only bit 10
// set is present. The error wraps [ErrBadEPTP].
func newEPT(r physmem.Reader, eptp x86.EPTP, modeBased bool) (*x86.Tables, error) {
	memoryType, levels := eptp.MemoryType(), eptp.Levels()
	switch {
	case memoryType != 0 && memoryType != 6:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: memory type (bits 2:0) is %d, not 0 or 6", uint64(eptp), memoryType)
	case levels != 4 && levels != 5:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: %d levels (bits 5:3, less one), not 4 or 5", uint64(eptp), levels)
	case eptp.Reserved():
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: reserved bits (11:8, 63:52) are set", uint64(eptp))
	}
	return x86.NewTables(r, x86.EPT(levels, modeBased), eptp.Root()), nil
}
