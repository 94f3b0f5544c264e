package guest

import (
	"context"
	"slices"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// nested lists the machines that run in m, as far as KVM has them: the one whose
// VMCS or VMCB each vCPU has loaded. Others are in m's memory alone, which is
// searched only if the caller asks.
func (a *asked) nested(ctx context.Context, m *Machine, s MachineSearch) error {
	by := make(map[uint64]*kvm.VCPU) // by the guest-physical address of their VMCS12
	mem := &newerPages{pages: make(map[uint64][]byte)}
	for _, v := range m.VCPUs {
		c := v.from
		switch {
		case c.VMX != nil && c.VMX.VMCS12 != ^uint64(0) && c.VMX.Cached12 != 0:
			page := make([]byte, vmcs.PageSize)
			if _, err := a.k.Read(page, c.VMX.Cached12); err != nil {
				a.keep(err)
				continue
			}
			by[c.VMX.VMCS12], mem.pages[c.VMX.VMCS12] = c, page
		case c.SVM != nil && c.Nested:
			a.nestedAMD(m, v, c)
		}
	}
	if len(m.Nested) > 0 || !s.Nested && len(by) == 0 {
		return nil
	}
	own, err := m.Memory()
	if err != nil {
		return nil
	}
	mem.Reader = own
	var addrs []uint64
	for addr := range by {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	known := pagesAt(addrs)
	if s.Nested {
		known = own.Once(a.Core).Ranges()
	}
	if err := a.findNested(ctx, m, physmem.With(mem, known), s); err != nil {
		return err
	}
	for _, n := range m.Nested {
		for _, v := range n.VCPUs {
			if c := by[v.Addr]; c != nil {
				n.FoundBy = FoundByKVM
				a.innerVCPU(v, c)
			}
		}
	}
	return nil
}

// innerVCPU completes a vCPU of a machine's machine by that on which it is
// loaded. While it runs, its state is in VMCS02 and KVM's copies; otherwise KVM
// has put it into VMCS12.
func (a *asked) innerVCPU(v *VCPU, c *kvm.VCPU) {
	if !c.Nested {
		return
	}
	v.TID, v.HostCPU, v.State = c.Thread, c.CPU, string(c.State)
	if c.Task != nil {
		v.Thread, _ = c.Task.Comm()
	}
	if in := a.known[c.VMX.VMCS02]; in != nil {
		v.VMCS.TakeGuestState(&in.VMCS)
	}
	v.Regs = RegistersIn(&v.VMCS)
	a.takeCopies(v.Regs, v, c)
	v.Regs.KernelGSBase = Register{} // the machine's own
}

// nestedAMD adds the vCPU that runs in one of m's.
func (a *asked) nestedAMD(m *Machine, outer *VCPU, c *kvm.VCPU) {
	v := &VCPU{
		Vendor: AMD, TID: outer.TID, Thread: outer.Thread, HostCPU: outer.HostCPU, State: outer.State,
		VMCB: c.SVM.VMCB02 &^ a.k.EncryptionMask(), Regs: new(Registers), from: c,
	}
	if v.VMCB != 0 {
		a.readVMCB(v, outer.VMCB)
	}
	a.takeCopies(v.Regs, v, c)
	i := slices.IndexFunc(m.Nested, func(n *Machine) bool { return n.npt == c.SVM.CR312 && n.npt != 0 })
	if i < 0 {
		i = len(m.Nested)
		m.Nested = append(m.Nested, &Machine{Number: i, FoundBy: FoundByKVM, Within: m, npt: c.SVM.CR312})
		if mem, err := m.Memory(); err == nil {
			m.Nested[i].outer = mem
		}
	}
	n := m.Nested[i]
	v.Number = len(n.VCPUs)
	n.VCPUs = append(n.VCPUs, v)
}

// openNested opens the memory of a machine's machine on AMD's processors: by the
// nested page tables in the machine's memory.
func (m *Machine) openNested() (*Memory, error) {
	if m.npt == 0 || m.outer == nil {
		return nil, ErrNoEPT
	}
	levels := 4
	for _, v := range m.Within.VCPUs {
		if v.Regs != nil && v.Regs.CR4.Value&x86.CR4LA57 != 0 {
			levels = 5
		}
	}
	return &Memory{host: m.outer, ept: &EPT{x86.NewTables(m.outer, x86.NPT(levels, 0), m.npt&x86.AddrMask)}}, nil
}

// newerPages is memory of which some pages are newer than in the Reader.
type newerPages struct {
	physmem.Reader
	pages map[uint64][]byte
}

func (w *newerPages) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		part := p[n:min(len(p), n+int(pageSize-at%pageSize))]
		k := len(part)
		if page := w.pages[at&^(pageSize-1)]; page != nil {
			copy(part, page[at%pageSize:])
		} else if k, err = w.Reader.ReadPhys(part, at); k < len(part) {
			return n + k, err
		}
		n += k
	}
	return n, nil
}
