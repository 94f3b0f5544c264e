package infer

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"vmcsnote/physmem"
)

// maxHeld bounds what is kept for each vCPU and search, of memory full of
// what looks like it.
const maxHeld = 64

// A scan looks at every aligned 8-byte word of memory for all vCPUs at once.
//
// A word may be the pointer to a VMCS: its bits 29:12 are those of the VMCS's
// physical address, since the direct map begins at a multiple of 1 GiB (KASLR
// moves it by that, with 4 and 5 levels), so its base need not be known. Or it
// may be the CR0 of a guest, and others at fixed distances its CR3, CR4, RSP.
// One table over bits 29:12 sorts out nearly all others.
type scan struct {
	Search
	filter filter
	vmcs   map[uint64][]*wanted
	cr0    []uint64 // each with the guest's own bits both ways
	byCR3  map[uint64][]*wanted
	byRSP  map[uint64][]*wanted

	mu sync.Mutex
}

// A page's address in the direct map has aPointer in the bits of pointerMask.
// lowMask selects those bits that do not depend on where the direct map begins.
const (
	pointerMask = 0xff00000000000fff
	aPointer    = 0xff00000000000000
	lowMask     = 1<<30 - 1
)

func (s Search) scan(ctx context.Context, wants []*wanted) error {
	if len(wants) == 0 {
		return nil
	}
	c := &scan{Search: s, vmcs: make(map[uint64][]*wanted), byCR3: make(map[uint64][]*wanted), byRSP: make(map[uint64][]*wanted)}
	for _, w := range wants {
		c.add(w)
	}
	return physmem.Scan(ctx, s.Mem, physmem.ScanOptions{Progress: s.Progress}, c.words)
}

// add makes the scan look for w.
func (c *scan) add(w *wanted) {
	low := w.v.Addr & lowMask
	c.vmcs[low] = append(c.vmcs[low], w)
	c.pass(low)
	c.byRSP[w.rsp] = append(c.byRSP[w.rsp], w)
	if w.haveCR3 {
		c.byCR3[w.cr3] = append(c.byCR3[w.cr3], w)
	}
	// KVM lets the guest have CR0.TS, and since Linux 5.8 CR0.WP; its copy may
	// be old in those.
	for own := range uint64(4) {
		bits := own&1<<3 | own>>1<<16
		if cr0 := w.cr0 ^ bits; bits&w.cr0Mask == 0 && !slices.Contains(c.cr0, cr0) {
			c.cr0 = append(c.cr0, cr0)
			c.pass(cr0)
		}
	}
}

func (c *scan) pass(w uint64) { c.filter[w>>18&0xfff] |= 1 << (w >> 12 & 63) }

// A filter has a bit for each value of a word's bits 29:12.
type filter [1 << 12]uint64

// has returns, in bit 0, whether w's bit is set.
func (f *filter) has(w uint64) uint64 { return f[w>>18&0xfff] >> (w >> 12 & 63) }

// words looks at the words of b, which lies at addr. It never fails.
func (c *scan) words(addr uint64, b []byte) error {
	filter := &c.filter
	skip := int(-addr & 7)
	for i := skip; i+64 <= len(b); i += 64 {
		p := (*[64]byte)(b[i:])
		if physmem.AllZero(p[:]) {
			continue
		}
		for j := 0; j < 64; j += 8 {
			if w := binary.LittleEndian.Uint64(p[j:]); filter.has(w)&1 != 0 {
				c.word(w, b, i+j, addr)
			}
		}
	}
	for i := max(skip, len(b)-(len(b)-skip)%64); i+8 <= len(b); i += 8 {
		if w := binary.LittleEndian.Uint64(b[i:]); filter.has(w)&1 != 0 {
			c.word(w, b, i, addr)
		}
	}
	return nil
}

// word looks at the word w at b[i:].
func (c *scan) word(w uint64, b []byte, i int, addr uint64) {
	at := addr + uint64(i)
	if w&pointerMask == aPointer {
		for _, want := range c.vmcs[w&lowMask] {
			c.pointer(want, hit{addr: at, base: w - want.v.Addr})
		}
		return
	}
	if !slices.Contains(c.cr0, w) || at < 8*kvmCR0 {
		return
	}
	start := i - 8*kvmCR0
	var words []byte
	if start >= 0 && start+8*kvmWords <= len(b) {
		words = b[start : start+8*kvmWords]
	} else { // across the end of the chunk
		words = make([]byte, 8*kvmWords)
		if n, _ := c.Mem.ReadPhys(words, at-8*kvmCR0); n < len(words) {
			return
		}
	}
	for _, want := range c.byCR3[binary.LittleEndian.Uint64(words[8*kvmCR3:])] {
		c.array(want, words, at-8*kvmCR0)
	}
	for _, want := range c.byRSP[binary.LittleEndian.Uint64(words[8*rsp:])] {
		c.array(want, words, at-8*kvmCR0)
	}
}

// pointer keeps a pointer to w's VMCS, and what it leads to.
func (c *scan) pointer(w *wanted, h hit) {
	if h.base&pointerMask != aPointer || w.fullPointers.Load() {
		return
	}
	c.look(w, &h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(w.pointers) < maxHeld {
		w.pointers = append(w.pointers, h)
	}
	w.fullPointers.Store(len(w.pointers) == maxHeld)
}

// array keeps the registers at addr, if they are w's. Those that fit w exactly
// are kept apart: of a guest's other vCPUs there may be more with the same CR3.
func (c *scan) array(w *wanted, words []byte, addr uint64) {
	exact := w.exactly(words)
	if w.fullArrays.Load() && !(exact && !w.fullExact.Load()) || !w.match(words) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := func(list *[]uint64) (full bool) {
		if len(*list) < maxHeld && !slices.Contains(*list, addr) {
			*list = append(*list, addr)
		}
		return len(*list) == maxHeld
	}
	w.fullArrays.Store(keep(&w.arrays))
	if exact {
		w.fullExact.Store(keep(&w.exact))
	}
}
