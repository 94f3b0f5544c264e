package guest

import (
	"encoding/binary"

	"github.com/pkg/errors"
)

const (
	cr0PE          = 1 << 0
	cr0PG          = 1 << 31
	cr4PSE         = 1 << 4
	cr4PAE         = 1 << 5
	cr4LA57        = 1 << 12
	longModeActive = 1 << 10 // of EFER
)

// Paging is what turns a guest's virtual (linear) addresses into its physical
// ones: the registers as the processor uses them, not as the guest sees them.
type Paging struct {
	CR0, CR3, CR4 uint64
	// EFER counts for LMA (bit 10) alone. VM_ENTRY_CONTROLS bit 9 is what to
	// take it from: GUEST_IA32_EFER is often stale.
	EFER uint64
	// PDPTE are the four entries of a guest in PAE paging: GUEST_PDPTR0 to 3,
	// if it runs on EPT. Where HavePDPTE is false they are read from memory at
	// CR3.
	PDPTE     [4]uint64
	HavePDPTE bool
}

// A Mode is a way to translate virtual addresses.
type Mode uint8

// The modes of the SDM, volume 3, "Paging".
const (
	NoPaging Mode = iota // CR0.PG is 0: a virtual address is the physical one
	Paging32             // 10 + 10 bits; CR4.PSE allows 4 MiB pages
	PagingPAE
	Paging4
	Paging5
)

// String names the mode as the SDM does.
func (m Mode) String() string {
	return [...]string{"no paging", "32-bit paging", "PAE paging", "4-level paging", "5-level paging"}[m]
}

// Mode tells the mode by CR0.PG, CR4.PAE and LA57, and EFER.LMA.
func (p *Paging) Mode() Mode {
	switch {
	case p.CR0&cr0PG == 0:
		return NoPaging
	case p.CR4&cr4PAE == 0:
		return Paging32
	case p.EFER&longModeActive == 0:
		return PagingPAE
	case p.CR4&cr4LA57 == 0:
		return Paging4
	}
	return Paging5
}

// Bits is the width of a virtual address: 32, 48 or 57.
func (m Mode) Bits() int { return [...]int{32, 32, 32, 48, 57}[m] }

// Canonical reports whether a virtual address is one in this mode: below 4 GiB,
// or all bits from the highest used on equal.
func (m Mode) Canonical(gva uint64) bool {
	if m.Bits() == 32 {
		return gva>>32 == 0
	}
	shift := 64 - m.Bits()
	return uint64(int64(gva<<shift)>>shift) == gva
}

// Translate finds what maps gva. mem is the memory that the tables are in and
// that the result is an address of: the guest's. It is the host's for shadow
// paging, where GUEST_CR3 points to KVM's own tables.
//
// The error wraps [ErrNotCanonical], or it is an [*EntryError] with
// [ErrNotMapped], [ErrReserved] or what mem said of a table.
func (p *Paging) Translate(mem Reader, gva uint64) (Mapping, error) {
	mode := p.Mode()
	if !mode.Canonical(gva) {
		return Mapping{}, errors.Wrapf(ErrNotCanonical, "%#x in %v", gva, mode)
	}
	switch mode {
	case NoPaging:
		return Mapping{Size: 1 << 32}, nil
	case Paging32:
		return p.descend(mem, gva, p.CR3&0xfffff000, 2, 4, 10)
	case Paging4:
		return p.descend(mem, gva, p.CR3&addrMask, 4, 8, 9)
	case Paging5:
		return p.descend(mem, gva, p.CR3&addrMask, 5, 8, 9)
	}
	entry, at := p.PDPTE[gva>>30], uint64(0)
	if !p.HavePDPTE {
		at = p.CR3&0xffffffe0 + gva>>30*8
		var err error
		if entry, err = readEntry(mem, at, 8); err != nil {
			return Mapping{}, &EntryError{"page table", 3, at, 0, err}
		}
	}
	if entry&ptePresent == 0 {
		return Mapping{}, &EntryError{"page table", 3, at, entry, ErrNotMapped}
	}
	return p.descend(mem, gva, entry&addrMask, 2, 8, 9)
}

// descend translates gva from the table at on, which is of the level given, its
// entries of width bytes, each level taking bits of gva.
func (p *Paging) descend(mem Reader, gva, at uint64, level int, width, bits uint64) (Mapping, error) {
	for ; ; level-- {
		shift := 12 + bits*uint64(level-1)
		at += gva >> shift & (1<<bits - 1) * width
		entry, err := readEntry(mem, at, width)
		if err != nil {
			return Mapping{}, &EntryError{"page table", level, at, 0, err}
		}
		large := level > 1 && entry&pteLarge != 0 && (width == 8 || p.CR4&cr4PSE != 0)
		switch {
		case entry&ptePresent == 0:
			return Mapping{}, &EntryError{"page table", level, at, entry, ErrNotMapped}
		case large && level > 3:
			return Mapping{}, &EntryError{"page table", level, at, entry, ErrReserved}
		case large || level == 1:
			size := uint64(1) << shift
			phys := entry & addrMask
			if large && width == 4 { // PSE-36: bits 20:13 are the address's 39:32
				phys |= entry >> 13 & 0xff << 32
			}
			// Bit 12 of a large page is PAT, and those above it are zero.
			return Mapping{gva &^ (size - 1), phys &^ (size - 1), size, entry, level}, nil
		}
		at = entry & addrMask
	}
}

// readEntry reads an entry of 4 or 8 bytes.
func readEntry(mem Reader, at, width uint64) (uint64, error) {
	var b [8]byte
	_, err := mem.ReadPhys(b[:width], at)
	return binary.LittleEndian.Uint64(b[:]), err
}

// Virtual is memory by virtual address: a [Reader] whose addresses are GVAs.
type Virtual struct {
	Paging Paging
	Mem    Reader // as for [Paging.Translate]
}

// ReadPhys fills p with the memory at gva, as [Reader] does. The error is an
// [*AddressError].
func (v Virtual) ReadPhys(p []byte, gva uint64) (n int, err error) {
	for n < len(p) {
		at := gva + uint64(n)
		m, err := v.Paging.Translate(v.Mem, at)
		if err != nil {
			return n, &AddressError{"guest-virtual", at, err}
		}
		skip := at - m.Addr
		part := p[n:]
		if uint64(len(part)) > m.Size-skip {
			part = part[:m.Size-skip]
		}
		k, err := v.Mem.ReadPhys(part, m.Phys+skip)
		n += k
		if k < len(part) {
			return n, &AddressError{"guest-virtual", gva + uint64(n), err}
		}
	}
	return n, nil
}
