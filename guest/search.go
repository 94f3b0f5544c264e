package guest

import (
	"context"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/guest/internal/kvm"
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

// String names the searches that held, "pointer", "words" or "pointer+words",
// or returns "kvm".
func (m Method) String() string {
	if m&ByKVM != 0 {
		return "kvm"
	}
	return [...]string{"none", "pointer", "words", "pointer+words"}[m&3]
}

// Evidence tells how certain the registers are that are in no VMCS.
type Evidence struct {
	// Held says which of the searches led to Array: as a rule both; none if the
	// registers are unknown.
	Held Method
	// Array is the physical address of the registers in KVM's structure.
	Array uint64
	// Pointers and Words count what each search found, up to 64. If all memory is
	// searched, a pointer without such registers below it (the per-CPU
	// current_vmcs) counts as well.
	Pointers, Words int
	// DirectMap is the virtual address at which the host's kernel has physical
	// address 0, by the pointer; 0 without.
	DirectMap uint64
}

// findRegisters returns the registers of each VMCS's vCPU: those in the VMCS,
// and those that the search finds.
func findRegisters(ctx context.Context, s infer.Search, vs []*vmcs.VMCS) ([]*Registers, error) {
	found, err := s.Registers(ctx, vs)
	if err != nil {
		return nil, err
	}
	regs := make([]*Registers, len(vs))
	for i, v := range vs {
		regs[i] = RegistersIn(v)
		readAPIC(s.Mem, v, regs[i])
		regs[i].takeFound(&found[i], v.OwnCR3())
	}
	return regs, nil
}

// takeFound takes the registers that a search found; own is as for overlay.
func (r *Registers) takeFound(f *infer.Found, own bool) {
	r.Evidence = Evidence{Array: f.Array, Pointers: f.Pointers, Words: f.Words, DirectMap: f.DirectMap}
	if !f.Known() {
		return
	}
	if f.ByPointer {
		r.Evidence.Held |= ByPointer
	}
	if f.ByWords {
		r.Evidence.Held |= ByWords
	}
	c := &f.Copies
	r.overlay(&kvm.Registers{GPR: c.GPR, RIP: c.RIP, CR2: c.CR2, CR3: c.CR3, Avail: c.Avail, Dirty: c.Dirty}, own)
	if c.HasEFER {
		r.EFER = Register{c.EFER, FromKVM}
	}
	if c.HasKernelGSBase {
		r.KernelGSBase = Register{c.KernelGSBase, FromKVM}
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
