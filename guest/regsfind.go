package guest

import (
	"context"
	"encoding/binary"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// Method is a way to find KVM's structure of a vCPU.
type Method uint8

const (
	// ByPointer: from the pointer to the VMCS in the vCPU's loaded_vmcs, the
	// registers lie a few KiB below.
	ByPointer Method = 1 << iota
	// ByWords: CR0, CR3 and CR4 as the guest has them, at the distances from
	// each other that KVM's structure has.
	ByWords
	// ByKVM: by KVM's list of machines, without a search.
	ByKVM
)

// String names the searches that held, "pointer", "words" or "pointer+words", or
// returns "kvm".
func (m Method) String() string {
	if m&ByKVM != 0 {
		return "kvm"
	}
	return [...]string{"none", "pointer", "words", "pointer+words"}[m&3]
}

// Evidence tells how certain the registers are that are in no VMCS.
type Evidence struct {
	// Held says which of the searches led to Array: both, as a rule; none
	// where the registers are unknown.
	Held Method
	// Array is the physical address of the registers in KVM's structure.
	Array uint64
	// Pointers and Words count what each search found; more than 64 are 64. The
	// same pointer without such registers below it (the per-CPU current_vmcs)
	// counts as well.
	Pointers, Words int
	// DirectMap is the virtual address at which the host's kernel has physical
	// address 0, by the pointer; 0 without.
	DirectMap uint64
}

// A RegSearch says where to look for registers.
type RegSearch struct {
	Mem physmem.Memory
	// DirectMaps are the virtual addresses that physical address 0 may have in
	// the host's kernel, as its dump says ([vmcore.DirectMaps]). Pointers that
	// agree with one are preferred; where it is empty (a compressed dump does not
	// say) they tell by themselves, being many that must agree.
	DirectMaps []uint64
	// Progress, where not nil, is told how many bytes have been looked at; from
	// one goroutine at a time.
	Progress func(done uint64)
}

// walkDown is how far below the pointer to the VMCS the registers may lie, in
// bytes: 0x1960 in Linux 6.1, in a structure of some 10 KB.
const walkDown = 0x8000

// Find returns the registers of each VMCS's vCPU: those in the VMCS, and those
// that KVM keeps, which one pass over all memory looks for, for all vCPUs at
// once. What is not certain stays unknown. It fails for ctx alone: memory that
// cannot be read is memory in which nothing is found.
func (s RegSearch) Find(ctx context.Context, vs []*vmcs.VMCS) ([]*Registers, error) {
	regs := make([]*Registers, len(vs))
	wants := make([]*wanted, 0, len(vs))
	of := make([]int, 0, len(vs)) // wants[i] is for regs[of[i]]
	for i, v := range vs {
		regs[i] = readVMCS(v)
		readAPIC(s.Mem, v, regs[i])
		if w, ok := newWanted(v); ok {
			wants, of = append(wants, w), append(of, i)
		}
	}
	if err := s.scan(ctx, wants); err != nil {
		return nil, err
	}
	for i, p := range pickArrays(wants, s.DirectMaps) {
		s.settle(regs[of[i]], wants[i], p)
	}
	return regs, nil
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
func (s RegSearch) settle(r *Registers, w *wanted, p pick) {
	e := &r.Evidence
	e.Pointers, e.Words = len(w.pointers), len(w.arrays)
	b := make([]byte, 8*kvmMore)
	if n, _ := s.Mem.ReadPhys(b, p.array); p.held == 0 || n < 8*kvmWords || !w.match(b) {
		return
	} else {
		r.take(w, b[:n&^7])
	}
	e.Held, e.Array = p.held, p.array
	if p.held&ByPointer == 0 || p.from.addr < 8*beforeVMCS {
		return
	}
	e.DirectMap = p.from.base
	b = b[:8*beforeVMCS]
	if n, _ := s.Mem.ReadPhys(b, p.from.addr-8*beforeVMCS); n == len(b) {
		if gs, ok := kernelGSBase(b); ok {
			r.KernelGSBase = Register{gs, FromKVM}
		}
	}
}

// look finds the registers below a pointer to w's VMCS. With a word that points
// back at the pointer, as vcpu_vmx.loaded_vmcs does, those below another such
// word at the same distance from what it points at are of another structure.
func (s RegSearch) look(w *wanted, h *hit) {
	b := make([]byte, walkDown+0x400)
	low := max(h.addr, walkDown) - walkDown
	// Page by page: the dump may lack one. Zeros in its place match nothing.
	for at := low; at < h.addr; {
		next := min((at+pageSize)&^(pageSize-1), h.addr)
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

// readAPIC takes the vCPU's number and CR8 from its virtual-APIC page.
func readAPIC(mem physmem.Reader, v *vmcs.VMCS, r *Registers) {
	cpu, _ := v.Read(vmcs.CPUBasedVMExecControl)
	page, ok := v.Read(vmcs.VirtualApicPageAddr)
	b := make([]byte, 0x84)
	if !ok || cpu&x86.CPUTPRShadow == 0 { // the field is not in use
		return
	}
	if n, _ := mem.ReadPhys(b, page); n < len(b) {
		return
	}
	r.apic(b)
}
