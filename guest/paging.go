package guest

import (
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// paging is what turns a guest's virtual (linear) addresses into its physical
// ones: the registers as the processor uses them, not as the guest sees them.
type paging struct {
	CR0, CR3, CR4 uint64
	// EFER counts for LMA (bit 10) alone. Take that from VM_ENTRY_CONTROLS bit
	// 9: GUEST_IA32_EFER is often stale.
	EFER uint64
	// PDPTE are the four highest entries in PAE paging: GUEST_PDPTR0 to 3 if the
	// guest runs on EPT. If HavePDPTE is false they are read from memory at CR3.
	PDPTE     [4]uint64
	HavePDPTE bool
}

// A pagingMode is a way to translate virtual addresses.
type pagingMode uint8

// The modes of the SDM, volume 3, "Paging".
const (
	noPaging pagingMode = iota // CR0.PG is 0: a virtual address is the physical one
	paging32                   // 10 + 10 bits; CR4.PSE allows 4 MiB pages
	pagingPAE
	paging4
	paging5
)

// String names the mode as the SDM does.
func (m pagingMode) String() string {
	return [...]string{"no paging", "32-bit paging", "PAE paging", "4-level paging", "5-level paging"}[m]
}

// mode tells the mode by CR0.PG, CR4.PAE and LA57, and EFER.LMA.
func (p *paging) mode() pagingMode {
	switch {
	case p.CR0&x86.CR0PG == 0:
		return noPaging
	case p.CR4&x86.CR4PAE == 0:
		return paging32
	case p.EFER&x86.EFERLMA == 0:
		return pagingPAE
	case p.CR4&x86.CR4LA57 == 0:
		return paging4
	}
	return paging5
}

// canonical reports whether a virtual address is one in this mode.
func (m pagingMode) canonical(gva uint64) bool {
	switch m {
	case paging4:
		return x86.Canonical(gva, 48)
	case paging5:
		return x86.Canonical(gva, 57)
	}
	return gva>>32 == 0
}

// The formats of the modes' page tables.
var (
	pages32    = x86.Pages32(false)
	pages32PSE = x86.Pages32(true)
	pagesPAE   = x86.PAE()
	pages4     = x86.Pages(4)
	pages5     = x86.Pages(5)
)

// translate finds what maps gva. mem is the memory that the tables are in and
// that the result is an address of: the guest's. It is the host's for shadow
// paging, where GUEST_CR3 points to KVM's own tables. With an error, the
// mapping is the stretch around gva for which the error holds.
//
// The error wraps [ErrNotCanonical], or it is an [*EntryError] with
// [ErrNotMapped], [ErrReserved] or what mem said of a table.
func (p *paging) translate(mem physmem.Reader, gva uint64) (Mapping, error) {
	mode := p.mode()
	if !mode.canonical(gva) {
		return Mapping{}, errors.Wrapf(ErrNotCanonical, "%#x in %v", gva, mode)
	}
	switch mode {
	case noPaging:
		return Mapping{Size: 1 << 32}, nil
	case paging32:
		if p.CR4&x86.CR4PSE != 0 {
			return pages32PSE.Translate(mem, p.CR3&0xfffff000, gva)
		}
		return pages32.Translate(mem, p.CR3&0xfffff000, gva)
	case paging4:
		return pages4.Translate(mem, p.CR3&x86.AddrMask, gva)
	case paging5:
		return pages5.Translate(mem, p.CR3&x86.AddrMask, gva)
	}
	if !p.HavePDPTE {
		return pagesPAE.Translate(mem, p.CR3&0xffffffe0, gva)
	}
	return pagesPAE.Translate(pdptes{mem, &p.PDPTE}, pdptesAt, gva)
}

// pdptesAt is an address beyond any memory.
const pdptesAt = 1 << 63

// pdptes is memory with the four highest entries of PAE paging at pdptesAt.
type pdptes struct {
	physmem.Reader
	entry *[4]uint64
}

func (m pdptes) ReadPhys(p []byte, addr uint64) (int, error) {
	if i := (addr - pdptesAt) / 8; addr >= pdptesAt && i < 4 {
		return copy(p, binary.LittleEndian.AppendUint64(nil, m.entry[i])), nil
	}
	return m.Reader.ReadPhys(p, addr)
}

// virtualMemory is memory by virtual address: a [physmem.Reader] whose
// addresses are GVAs.
type virtualMemory struct {
	Paging paging
	Mem    physmem.Reader // as for translate
}

// ReadPhys fills p with the memory at gva, as [physmem.Reader] does. The error
// is an [*AddressError].
func (v virtualMemory) ReadPhys(p []byte, gva uint64) (n int, err error) {
	for n < len(p) {
		at := gva + uint64(n)
		m, err := v.Paging.translate(v.Mem, at)
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
