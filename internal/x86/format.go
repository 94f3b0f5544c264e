package x86

const (
	// AddrMask is the bits of an entry that hold an address, 51:12: no
	// processor has more physical address bits.
	AddrMask = 1<<52 - PageSize

	// PageSize is the size of the smallest page, and of a table, in bytes.
	PageSize = 4096
	// Entries is the number of 8-byte entries in a table.
	Entries = PageSize / 8
	// maxLevels is that of 5-level paging.
	maxLevels = 5
)

// Bits of a page table entry (SDM volume 3, "4-Level Paging and 5-Level
// Paging").
const (
	Present = 1 << 0
	Write   = 1 << 1
	Large   = 1 << 7 // maps a page above level 1; PAT at level 1
)

// A Decoder says what an entry at a level (1 is the lowest) is: a leaf and the
// address that it maps, or the address of the next table. The error is
// [ErrNotMapped] if the entry is not present.
type Decoder func(level int, entry uint64) (addr uint64, leaf bool, err error)

// A Format describes paging structures of a kind.
type Format struct {
	Name   string // for errors
	Levels int    // 2 to 5
	// Width is the size of an entry in bytes, 4 or 8. A table is a page, so
	// 1024 or 512 entries.
	Width int
	// Root is the number of entries in the highest table, if that is not a
	// page: 4 in PAE paging.
	Root int
	// Signed means that the upper half of the addresses is sign-extended to
	// 64 bits, as virtual addresses are and guest-physical ones are not.
	Signed bool
	// Encrypted is the bit of an entry that says that the memory is encrypted,
	// and that is no part of the address: AMD's C-bit. 0 if there is none.
	Encrypted uint64
	Decode    Decoder
}

// Pages returns the format of x86-64's page tables of 4 or 5 levels.
func Pages(levels int) *Format {
	return &Format{Name: "page table", Levels: levels, Width: 8, Signed: true, Decode: DecodePage}
}

// PAE returns the format of page tables in PAE paging. The root has four
// entries.
func PAE() *Format {
	return &Format{Name: "page table", Levels: 3, Width: 8, Root: 4, Decode: decodePAE}
}

// PageDirectory returns the format of the lower two levels of page tables with
// 8-byte entries, which map 1 GiB.
func PageDirectory() *Format {
	return &Format{Name: "page table", Levels: 2, Width: 8, Decode: DecodePage}
}

// Pages32 returns the format of page tables in 32-bit paging. With pse
// (CR4.PSE) there are pages of 4 MiB.
func Pages32(pse bool) *Format {
	return &Format{Name: "page table", Levels: 2, Width: 4, Decode: func(level int, entry uint64) (uint64, bool, error) {
		return decode32(level, entry, pse)
	}}
}

// decodePAE is DecodePage, but the highest entries have no bit for a large
// page.
func decodePAE(level int, entry uint64) (addr uint64, leaf bool, err error) {
	if level == 3 {
		entry &^= Large
	}
	return DecodePage(level, entry)
}

func decode32(level int, entry uint64, pse bool) (addr uint64, leaf bool, err error) {
	switch {
	case entry&Present == 0:
		return 0, false, ErrNotMapped
	case level == 2 && pse && entry&Large != 0:
		return entry&0xffc00000 | entry>>13&0xff<<32, true, nil // PSE-36
	}
	return entry & 0xfffff000, level == 1, nil
}

// DecodePage decodes an 8-byte page table entry as the processor does.
func DecodePage(level int, entry uint64) (addr uint64, leaf bool, err error) {
	addr = entry & AddrMask
	switch {
	case entry&Present == 0:
		return 0, false, ErrNotMapped
	case level == 1:
		return addr, true, nil
	case entry&Large == 0:
		return addr, false, nil
	case level > 3:
		return 0, false, ErrReserved
	}
	return addr &^ (Cover(level) - 1), true, nil // bit 12 of a large page is PAT
}

// Cover is the number of bytes that an 8-byte entry covers at a level: 4 KiB at
// level 1, 512 times as many at each above.
func Cover(level int) uint64 { return 1 << (12 + 9*(level-1)) }

// indexBits is the number of address bits that a level translates.
func (f *Format) indexBits() int {
	if f.Width == 4 {
		return 10
	}
	return 9
}

// cover is Cover for this format.
func (f *Format) cover(level int) uint64 { return 1 << (12 + f.indexBits()*(level-1)) }

// entries is the number of entries in a table of a level.
func (f *Format) entries(level int) int {
	if level == f.Levels && f.Root != 0 {
		return f.Root
	}
	return PageSize / f.Width
}

// Size is the number of addresses that the tables can map. No format reaches
// 64 bits.
func (f *Format) Size() uint64 { return f.cover(f.Levels) * uint64(f.entries(f.Levels)) }

// hole returns the addresses that the tables cannot map, which lie in one
// stretch.
func (f *Format) hole() Mapping {
	size := f.Size()
	if f.Signed {
		return Mapping{Addr: size / 2, Size: -size}
	}
	return Mapping{Addr: size, Size: -size}
}

// linear takes the sign extension off an address.
func (f *Format) linear(addr uint64) (uint64, bool) {
	size := f.Size()
	if !f.Signed {
		return addr, addr < size
	}
	return addr & (size - 1), f.extend(addr&(size-1)) == addr
}

// extend puts the sign extension on.
func (f *Format) extend(addr uint64) uint64 {
	if size := f.Size(); f.Signed && addr >= size/2 {
		return addr | -size
	}
	return addr
}
