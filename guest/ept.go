package guest

import (
	"iter"

	"github.com/pkg/errors"
)

// Bits of an EPT entry (SDM volume 3, "EPT Translation Mechanism").
const (
	eptRead    = 1 << 0
	eptWrite   = 1 << 1
	eptExecute = 1 << 2
	eptRWX     = eptRead | eptWrite | eptExecute
	eptLarge   = 1 << 7
	eptUserX   = 1 << 10 // with mode-based execute control only
)

// EPT is a tree of extended page tables. It is safe for concurrent use.
type EPT struct {
	// AccessDirty tells that the processor keeps accessed (bit 8) and dirty
	// flags (bit 9) in the entries: EPTP bit 6.
	AccessDirty bool
	// ModeBased tells that SECONDARY_VM_EXEC_CONTROL bit 22 is set (mode-based
	// execute control): an entry with nothing but bit 10 is present then. Set
	// it before the first use.
	ModeBased bool

	tree tree
}

// NewEPT takes eptp, a VMCS's EPT_POINTER, apart; r is the host's memory. It
// reads nothing. The error wraps [ErrBadEPTP].
func NewEPT(r Reader, eptp uint64) (*EPT, error) {
	e := &EPT{AccessDirty: eptp&(1<<6) != 0}
	e.tree = tree{r: r, name: "EPT", root: eptp & addrMask, levels: int(eptp>>3&7) + 1, decode: e.decode}
	memoryType := eptp & 7
	switch {
	case memoryType != 0 && memoryType != 6:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: memory type (bits 2:0) is %d, not 0 or 6", eptp, memoryType)
	case e.Levels() != 4 && e.Levels() != 5:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: %d levels (bits 5:3, less one), not 4 or 5", eptp, e.Levels())
	case eptp&^addrMask>>8 != 0:
		return nil, errors.Wrapf(ErrBadEPTP, "%#x: reserved bits (11:8, 63:52) are set", eptp)
	}
	return e, nil
}

// Levels is the number of levels, 4 or 5.
func (e *EPT) Levels() int { return e.tree.levels }

// Root is the highest table's address in the host's physical memory.
func (e *EPT) Root() uint64 { return e.tree.root }

// decode reads an entry. Writable, but not readable, is a misconfiguration
// whatever else is set; KVM makes MMIO entries so. KVM's entries for access
// tracking (processors without accessed flags) have bits 2:0 clear and count as
// not mapped, as for the processor: their pages are found through the process.
func (e *EPT) decode(level int, entry uint64) (addr uint64, leaf bool, err error) {
	addr = entry & addrMask
	switch {
	case entry&eptRWX == 0 && (entry&eptUserX == 0 || !e.ModeBased):
		return 0, false, ErrNotMapped
	case entry&(eptRead|eptWrite) == eptWrite:
		return 0, false, ErrMMIO
	case level > 1 && entry&eptLarge == 0:
		if entry>>3&0xf != 0 {
			return 0, false, ErrReserved
		}
		return addr, false, nil
	case level > 3 || addr&(cover(level)-1) != 0:
		return 0, false, ErrReserved
	}
	return addr, true, nil
}

// Translate finds what maps gpa. The error is [ErrNotMapped], or an
// [*EntryError] with [ErrMMIO], [ErrReserved] or what the reader said of a
// table; the mapping is then the stretch it holds for.
func (e *EPT) Translate(gpa uint64) (Mapping, error) { return e.tree.lookup(gpa) }

// Mappings gives all mappings in order of address, and MMIO and whatever
// cannot be followed with an [*EntryError] for the stretch concerned. Its time
// and memory are bounded: it goes through 4 Mi tables at most, by which it ends with
// [ErrTooManyTables], and not through one again that it met before.
func (e *EPT) Mappings() iter.Seq2[Mapping, error] {
	return newWalker(&e.tree).walk(0, e.tree.end())
}
