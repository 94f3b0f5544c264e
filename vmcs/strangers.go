package vmcs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"

	"vmcsnote/internal/x86"
)

// A Stranger is a revision identifier that no layout has, but pages that look
// like VMCSs do. Only VMCSINFO could tell where their fields are.
type Stranger struct {
	RevisionID uint32
	Pages      int
}

// maxStrangers is above all revision identifiers that may be strangers.
// Processors' are small, the largest known is 0x2b.
const maxStrangers = 0x1000

// strangers counts pages that look like a VMCS of Linux's KVM, wherever its
// fields are.
type strangers struct {
	mu  sync.Mutex
	ids []Stranger // those of most pages first
}

var (
	// linuxCR0 is CR0 of every 64-bit Linux, HOST_CR0 of every KVM: PG, AM,
	// WP, NE, ET, MP, PE.
	linuxCR0 = binary.LittleEndian.AppendUint64(nil, 0x80050033)
	allOnes  = bytes.Repeat([]byte{0xff}, 8)
)

// look counts the page, if it has what a VMCS has: an identifier and no abort
// indicator, HOST_CR0, VMCS_LINK_POINTER, HOST_RIP in a kernel, HOST_CR4 with
// VMXE; the rest of it is mostly zero.
func (s *strangers) look(page []byte) {
	id := binary.LittleEndian.Uint32(page) & maxRevisionID
	if id == 0 || id >= maxStrangers || binary.LittleEndian.Uint32(page[4:]) != 0 || !bytes.Contains(page[headerSize:], linuxCR0) || !bytes.Contains(page[headerSize:], allOnes) {
		return
	}
	rip, cr4, zeros := false, false, 0
	for off := headerSize; off+8 <= PageSize; off += 4 {
		v := binary.LittleEndian.Uint64(page[off:])
		rip = rip || v >= linuxText && v != ^uint64(0)
		cr4 = cr4 || v>>33 == 0 && v&(x86.CR4VMXE|x86.CR4PAE) == x86.CR4VMXE|x86.CR4PAE
		if uint32(v) == 0 {
			zeros++
		}
	}
	if !rip || !cr4 || zeros < PageSize/4/2 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.ids, func(k Stranger) bool { return k.RevisionID == id })
	if i < 0 {
		i = len(s.ids)
		s.ids = append(s.ids, Stranger{RevisionID: id})
	}
	s.ids[i].Pages++
	for ; i > 0 && s.ids[i].before(s.ids[i-1]); i-- {
		s.ids[i], s.ids[i-1] = s.ids[i-1], s.ids[i]
	}
}

// before reports whether s comes before k: with more pages, or the lower
// identifier.
func (s Stranger) before(k Stranger) bool {
	return s.Pages > k.Pages || s.Pages == k.Pages && s.RevisionID < k.RevisionID
}
