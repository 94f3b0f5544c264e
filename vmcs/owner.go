package vmcs

import (
	"strconv"
	"strings"

	"vmcsnote/physmem"
)

// An Owner is who uses a page of a Linux host's memory.
type Owner uint8

const (
	OwnerUnknown Owner = iota // the dump does not tell
	OwnerNone                 // nobody: the page is free
	OwnerUser                 // a process or a file; every guest's memory is a process's
	OwnerKernel
)

var ownerNames = [...]string{"unknown", "nobody", "a process or a file", "the kernel"}

// String names the owner.
func (o Owner) String() string { return ownerNames[o] }

// Owners tells who uses the pages of a Linux host, by the kernel's own page
// tables and its list of pages. It is not safe for concurrent use.
type Owners struct {
	tables hostTables
	root   uint64
	levels int
}

// NewOwners takes the memory and VMCOREINFO of a dump. It returns nil if these
// do not tell: for other kernels than x86-64's, and before 4.16 (phys_base).
func NewOwners(r physmem.Reader, vmcoreinfo string) *Owners {
	m := newMemMap(vmcoreinfo)
	table, err := strconv.ParseUint(infoValue(vmcoreinfo, "SYMBOL(swapper_pg_dir)"), 16, 64)
	base, err2 := strconv.ParseInt(infoValue(vmcoreinfo, "NUMBER(phys_base)"), 10, 64)
	if m == nil || err != nil || err2 != nil || table < linuxText {
		return nil
	}
	o := &Owners{tables: hostTables{r: r, memMap: m}, root: table - linuxText + uint64(base), levels: 4}
	if l5, _ := strconv.ParseUint(infoValue(vmcoreinfo, "NUMBER(pgtable_l5_enabled)"), 10, 64); l5 != 0 {
		o.levels = 5
	}
	return o
}

// Of returns who uses the page at a physical address. A nil o does not know.
func (o *Owners) Of(addr uint64) Owner {
	if o == nil {
		return OwnerUnknown
	}
	return o.tables.memMap.owner(&o.tables, o.root, addr&^(PageSize-1), o.levels)
}

// infoValue returns the value of a line KEY=VALUE of VMCOREINFO, or "".
func infoValue(text, key string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
