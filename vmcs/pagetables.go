package vmcs

import (
	"encoding/binary"
	"slices"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

const (
	half       = x86.Entries / 2     // from here on a first table's map the kernel
	linuxText  = 0xffffffff_80000000 // Linux's kernel text and modules lie above, since 2.6
	vmwareText = 0xffffffff_fc000000 // VMware's monitor lies above, in page tables of its own
)

// hostTables looks at the page tables of hosts. Its searches are bounded:
// tables of a hostile dump, and pages that were tables once, lead everywhere.
type hostTables struct {
	r      physmem.Reader
	budget int      // tables and entries that this search may still read
	vain   int      // tables and entries read by searches that found nothing
	bases  []uint64 // where direct maps were found to begin
	page   []byte   // for root

	memMap   *memMap // nil where it is not known
	owners   *Owners // nil where VMCOREINFO does not tell
	complete bool    // what the dump does not hold was free memory
	seen     seenSet
}

// seenSet is what at least one VMCS has, so that others should have it, too:
// a first table of the host, one of EPT, a page that the kernel uses.
type seenSet struct{ host, ept, kernel bool }

// gone is the answer if a table is not in the dump; others reports whether the
// dump has other tables of its kind.
func (t *hostTables) gone(others bool) Answer {
	if t.complete && others {
		return No
	}
	return Undecided
}

const (
	// searchBudget is enough for 8 TiB mapped in pieces of 1 GiB, each with a
	// table and an entry to read.
	searchBudget = 1 << 14
	// vainBudget is enough for all searches that find nothing: a dump without
	// page tables shows no direct map. Pages that only look like VMCSs may lead
	// to tables without one, and must not use it up at once.
	vainBudget = 1 << 20
	// maxBases is how many direct maps are kept: a host has one.
	maxBases = 4
)

func (t *hostTables) read(b []byte, addr uint64) bool {
	n, _ := t.r.ReadPhys(b, addr)
	return n == len(b)
}

// root returns the first page table, at addr, in a buffer that the next call
// overwrites; nil if the table cannot be read.
func (t *hostTables) root(addr uint64) []byte {
	if t.page == nil {
		t.page = make([]byte, PageSize)
	}
	if !t.read(t.page, addr&x86.AddrMask) {
		return nil
	}
	return t.page
}

// table is root with a buffer of its own.
func (t *hostTables) table(addr uint64) []byte {
	if b := make([]byte, PageSize); t.read(b, addr&x86.AddrMask) {
		return b
	}
	return nil
}

// ReadPhys reads memory for a translation. Each entry counts for the budget.
func (t *hostTables) ReadPhys(b []byte, addr uint64) (int, error) {
	t.budget--
	return t.r.ReadPhys(b, addr)
}

// directMap finds where in linear memory the host maps all physical memory in
// one piece, as Linux, Xen and others do: the linear address of physical
// address 0. It looks in the kernel's half of the page tables at cr3 for what
// maps the physical address addr; the map may begin at any multiple of 1 GiB
// (KASLR). levels is 4, or 5 with CR4.LA57. It returns false if the dump lacks
// the tables, and if nothing maps addr.
func (t *hostTables) directMap(cr3, addr uint64, levels int) (uint64, bool) {
	for _, base := range t.bases {
		if t.translate(pageTables[levels], cr3, base+addr) == addr {
			return base, true
		}
	}
	if t.vain >= vainBudget || len(t.bases) >= maxBases {
		return 0, false
	}
	t.budget = searchBudget
	linear, ok := t.search(cr3, addr, levels, levels, 0)
	if !ok {
		t.vain += searchBudget - t.budget
		return 0, false
	}
	if base := linear - addr; !slices.Contains(t.bases, base) {
		t.bases = append(t.bases, base)
	}
	return linear - addr, true
}

var (
	pageTables    = map[int]*x86.Format{4: x86.Pages(4), 5: x86.Pages(5)}
	pageDirectory = x86.PageDirectory()
)

// translate returns the physical address of a linear one; all ones if it is not
// mapped.
func (t *hostTables) translate(f *x86.Format, root, linear uint64) uint64 {
	m, err := f.Translate(t, root&x86.AddrMask, linear)
	if err != nil {
		return ^uint64(0)
	}
	return m.Phys + linear - m.Addr
}

// search returns the linear address in the kernel's half that maps addr, and
// whose bits 29:0 are those of addr.
func (t *hostTables) search(table, addr uint64, level, levels int, linear uint64) (uint64, bool) {
	if level == 2 {
		return linear | addr&(1<<30-1), t.translate(pageDirectory, table, addr&(1<<30-1)) == addr
	}
	t.budget--
	b := t.table(table)
	if b == nil {
		return 0, false
	}
	first := 0
	if level == levels {
		first = half
	}
	for i := first; i < x86.Entries && t.budget > 0; i++ {
		e := binary.LittleEndian.Uint64(b[8*i:])
		at := linear | uint64(i)*x86.Cover(level)
		if level == levels { // the addresses of the upper half are sign-extended
			at |= -x86.Cover(levels + 1)
		}
		phys, leaf, err := x86.DecodePage(level, e)
		switch {
		case err != nil:
		case leaf:
			if phys == addr&^(1<<30-1) {
				return at | addr&(1<<30-1), true
			}
		default:
			if at, ok := t.search(phys, addr, level-1, levels, at); ok {
				return at, true
			}
		}
	}
	return 0, false
}
