package x86

// An EPTP is the value of a VMCS's EPT_POINTER: the address of a guest's
// extended page tables and how to walk them (SDM volume 3,
// "Extended-Page-Table Pointer").
type EPTP uint64

// Root returns the physical address of the first table.
func (p EPTP) Root() uint64 { return uint64(p) & AddrMask }

// Levels returns the length of a walk: 4 or 5 if p is valid.
func (p EPTP) Levels() int { return int(p>>3&7) + 1 }

// MemoryType returns the memory type of the tables, bits 2:0.
func (p EPTP) MemoryType() int { return int(p & 7) }

// Reserved reports whether reserved bits are set (11:8 and 63:52). Bit 7,
// supervisor shadow stacks, is reserved on older processors only.
func (p EPTP) Reserved() bool { return p&0xf00 != 0 || p>>52 != 0 }

// AccessedDirty reports whether the processor keeps accessed and dirty flags.
func (p EPTP) AccessedDirty() bool { return p&(1<<6) != 0 }

// Valid reports whether VM entry accepts p: memory type uncacheable or
// write-back, 4 or 5 levels, reserved bits clear. The root may not be 0.
func (p EPTP) Valid() bool {
	typ := p.MemoryType()
	return (typ == 0 || typ == 6) && (p.Levels() == 4 || p.Levels() == 5) && !p.Reserved() && p.Root() != 0
}

// Bits of an EPT entry (SDM volume 3, "EPT Translation Mechanism").
const (
	EPTRead    = 1 << 0
	EPTWrite   = 1 << 1
	eptExecute = 1 << 2
	eptUserX   = 1 << 10 // with mode-based execute control only

	eptTableReserved = 0xf << 3 // of an entry that refers to a table
)

// EPTEnd is the first address that no EPT maps.
const EPTEnd = 1 << 57

// EPT returns the format of extended page tables of 4 or 5 levels. With
// modeBased (SECONDARY_VM_EXEC_CONTROL bit 22) an entry that has only bit 10
// set is present.
func EPT(levels int, modeBased bool) *Format {
	access := uint64(EPTRead | EPTWrite | eptExecute)
	if modeBased {
		access |= eptUserX
	}
	return &Format{Name: "EPT", Levels: levels, Width: 8, Decode: func(level int, entry uint64) (uint64, bool, error) {
		return decodeEPT(level, entry, access)
	}}
}

// decodeEPT decodes an entry, which is present if one of the bits in access is
// set. Writable but not readable is a misconfiguration, whatever else is set;
// KVM makes MMIO entries this way. KVM's entries for access tracking (on
// processors without accessed flags) have bits 2:0 clear and count as not
// mapped, as for the processor: their pages are found through the process.
func decodeEPT(level int, entry, access uint64) (addr uint64, leaf bool, err error) {
	addr = entry & AddrMask
	switch {
	case entry&access == 0:
		return 0, false, ErrNotMapped
	case entry&(EPTRead|EPTWrite) == EPTWrite:
		return 0, false, ErrMMIO
	case level > 1 && entry&Large == 0:
		if entry&eptTableReserved != 0 {
			return 0, false, ErrReserved
		}
		return addr, false, nil
	case level > 3 || addr&(Cover(level)-1) != 0:
		return 0, false, ErrReserved
	}
	return addr, true, nil
}
