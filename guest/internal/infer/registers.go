// Package infer finds by experiment what KVM's structures would tell if the
// kernel had types for them: the registers of a vCPU that are in no VMCS, and
// the memory slots of a guest.
package infer

import (
	"context"
	"encoding/binary"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// A Search says where to look for registers.
type Search struct {
	Mem physmem.Memory
	// DirectMaps are the virtual addresses that physical address 0 may have in
	// the host's kernel, as its dump says. Pointers that agree with one are
	// preferred. If it is empty (a compressed dump does not say) the address is
	// the one on which most pointers agree.
	DirectMaps []uint64
	// Progress, if not nil, is told how many bytes have been looked at, by one
	// goroutine at a time.
	Progress func(done uint64)
}

// Found is what a search found for one vCPU.
type Found struct {
	// ByPointer: the registers lie a few KiB below the pointer to the VMCS in the
	// vCPU's loaded_vmcs. ByWords: CR0, CR3 and CR4 have the guest's values, at
	// the distances from each other that KVM's structure has. As a rule both
	// searches lead to Array; neither does if the registers are unknown.
	ByPointer, ByWords bool
	// Array is the physical address of the registers in KVM's structure.
	Array uint64
	// Pointers and Words count what each search found, up to 64. If all memory is
	// searched, a pointer without such registers below it (the per-CPU
	// current_vmcs) counts as well.
	Pointers, Words int
	// DirectMap is the virtual address at which the host's kernel has physical
	// address 0, by the pointer; 0 without.
	DirectMap uint64
	// Copies are the registers; zero if neither search led to them.
	Copies Copies
}

// Known reports whether the registers were found.
func (f *Found) Known() bool { return f.ByPointer || f.ByWords }

// Copies are KVM's copies of a vCPU's registers.
type Copies struct {
	GPR           [16]uint64 // as the processor numbers them
	RIP, CR2, CR3 uint64
	// Avail and Dirty have a bit for each of GPR, and those of KVM since Linux
	// 5.8 (enum kvm_reg) for RIP and CR3.
	Avail, Dirty             uint64
	EFER, KernelGSBase       uint64
	HasEFER, HasKernelGSBase bool
}

// walkDown is how far below the pointer to the VMCS the registers may lie, in
// bytes: 0x1960 in Linux 6.1, in a structure of some 10 KB.
const walkDown = 0x8000

// Registers returns what KVM keeps of each VMCS's vCPU. It looks where the VMCS
// says that KVM's structure is; one pass over all memory looks for all vCPUs
// whose VMCS does not say so. What is not certain stays unknown. Registers
// fails only if ctx ends: in memory that cannot be read it finds nothing.
func (s Search) Registers(ctx context.Context, vs []*vmcs.VMCS) ([]Found, error) {
	found := make([]Found, len(vs))
	wants := make([]*wanted, 0, len(vs))
	of := make([]int, 0, len(vs)) // wants[i] is for found[of[i]]
	for i, v := range vs {
		if w, ok := newWanted(v); ok {
			wants, of = append(wants, w), append(of, i)
		}
	}
	if err := s.find(ctx, wants); err != nil {
		return nil, err
	}
	for i, p := range pickArrays(wants, s.DirectMaps) {
		found[of[i]] = s.settle(wants[i], p)
	}
	return found, nil
}

// A hit is a word that points to a VMCS.
type hit struct {
	addr uint64 // physical address of the word
	base uint64 // of the direct map, going by it
	regs []uint64
	// agree is those of regs that have the vCPU's RSP or RIP.
	agree []uint64
	self  bool // something after it points back at it, as vcpu_vmx.loaded_vmcs does
}

// settle takes the registers out of the array picked.
func (s Search) settle(w *wanted, p pick) Found {
	f := Found{Pointers: len(w.pointers), Words: len(w.arrays)}
	b := make([]byte, 8*kvmMore)
	n, _ := s.Mem.ReadPhys(b, p.array)
	if !p.byPointer && !p.byWords || n < 8*kvmWords || !w.match(b) {
		return f
	}
	f.Copies = w.copies(b[:n&^7])
	f.ByPointer, f.ByWords, f.Array = p.byPointer, p.byWords, p.array
	if !p.byPointer || p.from.addr < 8*beforeVMCS {
		return f
	}
	f.DirectMap = p.from.base
	b = b[:8*beforeVMCS]
	if n, _ := s.Mem.ReadPhys(b, p.from.addr-8*beforeVMCS); n == len(b) {
		f.Copies.KernelGSBase, f.Copies.HasKernelGSBase = kernelGSBase(b)
	}
	return f
}

// look finds the registers below a pointer to w's VMCS. If a word after the
// pointer points back at it, as vcpu_vmx.loaded_vmcs does, another such pair at
// the same distance belongs to another structure, and so do registers below it.
func (s Search) look(w *wanted, h *hit) {
	b := make([]byte, walkDown+0x400)
	low := max(h.addr, walkDown) - walkDown
	// Page by page: the dump may lack one. Zeros in its place match nothing.
	for at := low; at < h.addr; {
		next := min((at+x86.PageSize)&^(x86.PageSize-1), h.addr)
		s.Mem.ReadPhys(b[at-low:next-low], at)
		at = next
	}
	own := h.addr - low
	n, _ := s.Mem.ReadPhys(b[own:own+0x200], h.addr)
	clear(b[own+uint64(n):])
	pointsAt := func(at, off uint64) bool { return binary.LittleEndian.Uint64(b[at:]) == h.base+low+off }
	back := uint64(8)
	for ; back < 0x200 && !h.self; back += 8 {
		h.self = pointsAt(own+back, own)
	}
	back -= 8
	for off := uint64(0); off < own; off += 8 {
		switch {
		case h.self && pointsAt(off+back, off):
			h.regs, h.agree = nil, nil
		case off+8*kvmWords <= own && w.match(b[off:]):
			h.regs = append(h.regs, low+off)
			if w.agrees(b[off:]) {
				h.agree = append(h.agree, low+off)
			}
		}
	}
}
