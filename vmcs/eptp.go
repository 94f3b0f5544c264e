package vmcs

// An EPTP is an EPT_POINTER: where a guest's extended page tables begin, and
// how they are walked (SDM volume 3, "Extended-Page-Table Pointer").
type EPTP uint64

// Root is the physical address of the first table.
func (p EPTP) Root() uint64 { return uint64(p) & (1<<52 - PageSize) }

// Levels is the length of a walk: 4 or 5 where p is valid.
func (p EPTP) Levels() int { return int(p>>3&7) + 1 }

// AccessedDirty reports whether the processor keeps accessed and dirty flags.
func (p EPTP) AccessedDirty() bool { return p&(1<<6) != 0 }

// Valid reports whether VM entry accepts p: memory type uncacheable or
// write-back, 4 or 5 levels, reserved bits clear. (Bit 7, supervisor shadow
// stacks, is reserved on older processors.)
func (p EPTP) Valid() bool {
	typ := p & 7
	return (typ == 0 || typ == 6) && (p.Levels() == 4 || p.Levels() == 5) && p&0xf00 == 0 && p>>52 == 0 && p.Root() != 0
}
