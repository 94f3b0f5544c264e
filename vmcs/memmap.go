package vmcs

import (
	"encoding/binary"
	"strconv"
	"strings"

	"vmcsnote/physmem"
)

// A memMap is Linux's array of struct page, which tells what each page of
// memory is used for. VMCOREINFO says where it begins and how it is laid out:
// mem_section is an array of pointers to pages full of struct mem_section, one
// for each 128 MiB on x86-64, which point to their part of it
// (CONFIG_SPARSEMEM_EXTREME, include/linux/mmzone.h).
type memMap struct {
	sections, sectionSize, mapOffset, sectionBits uint64
	pageSize, flags, refcount, mapping, lru       uint64
}

// newMemMap reads VMCOREINFO's text. It returns nil if that does not tell
// enough, as in other kernels than x86-64's.
func newMemMap(vmcoreinfo string) *memMap {
	m := new(memMap)
	keys := [...]struct {
		name string
		base int
		to   *uint64
		max  uint64
	}{
		{"SYMBOL(mem_section)", 16, &m.sections, 1<<64 - 1},
		{"SIZE(mem_section)", 10, &m.sectionSize, PageSize / 2},
		{"OFFSET(mem_section.section_mem_map)", 10, &m.mapOffset, PageSize},
		{"NUMBER(SECTION_SIZE_BITS)", 10, &m.sectionBits, 40},
		{"SIZE(page)", 10, &m.pageSize, PageSize},
		{"OFFSET(page.flags)", 10, &m.flags, PageSize},
		{"OFFSET(page._refcount)", 10, &m.refcount, PageSize},
		{"OFFSET(page.mapping)", 10, &m.mapping, PageSize},
		{"NUMBER(PG_lru)", 10, &m.lru, 63},
	}
	found := 0
	for line := range strings.Lines(vmcoreinfo) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for _, k := range keys {
			if name != k.name {
				continue
			}
			if n, err := strconv.ParseUint(value, k.base, 64); err == nil && n <= k.max {
				*k.to = n
				found++
			}
		}
	}
	if found < len(keys) || m.sectionSize == 0 || m.sectionBits < 12 || max(m.flags, m.refcount, m.mapping)+8 > m.pageSize+4 {
		return nil
	}
	return m
}

// owner tells who uses the page at addr, by the kernel's page tables at cr3.
func (m *memMap) owner(t *hostTables, cr3, addr uint64, levels int) Owner {
	const hasMap = 1 << 1 // SECTION_HAS_MEM_MAP
	word := func(linear uint64) uint64 {
		var b [8]byte
		if at := t.translate(pageTables[levels], cr3, linear); at == ^uint64(0) || !t.read(b[:], at) {
			return 0
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	section := addr >> m.sectionBits
	perRoot := PageSize / m.sectionSize
	root := word(m.sections + section/perRoot*8)
	if root == 0 {
		return OwnerUnknown
	}
	pages := word(root + section%perRoot*m.sectionSize + m.mapOffset)
	if pages&hasMap == 0 {
		return OwnerUnknown
	}
	page := pages&^(PageSize-1) + addr/PageSize*m.pageSize
	frame := t.translate(pageTables[levels], cr3, page)
	b := make([]byte, m.pageSize+8)
	if frame == ^uint64(0) || frame%PageSize+m.pageSize > PageSize || !t.read(b[:m.pageSize], frame) {
		return OwnerUnknown
	}
	switch {
	case physmem.AllZero(b):
		return OwnerUnknown // left out of the dump: _mapcount of a free page is -1
	case binary.LittleEndian.Uint32(b[m.refcount:]) == 0:
		return OwnerNone // or the tail of a larger piece, which no VMCS is
	case binary.LittleEndian.Uint64(b[m.mapping:]) != 0 || binary.LittleEndian.Uint64(b[m.flags:])>>m.lru&1 != 0:
		return OwnerUser
	}
	return OwnerKernel
}
