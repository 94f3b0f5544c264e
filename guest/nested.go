package guest

import (
	"context"
	"maps"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// nested lists the machines that run in m. If m's own kernel has a KVM that
// lists them, these are all. Otherwise nested lists those whose VMCS or VMCB
// m's vCPUs have loaded, by the host's KVM. Others are in m's memory alone,
// which it searches only if the caller asks.
func (a *asked) nested(ctx context.Context, m *Machine, s MachineSearch) error {
	l := a.loaded(m)
	if listed, err := a.ownKVM(ctx, m, s, l); listed || err != nil {
		return err
	}
	for _, v := range l.amd {
		a.innerMachine(m, v)
	}
	if len(m.Nested) > 0 || !s.Nested && len(l.intel) == 0 {
		return nil
	}
	own, err := m.Memory()
	if err != nil {
		return nil
	}
	known := pagesAt(slices.Sorted(maps.Keys(l.intel)))
	if s.Nested {
		known = own.once(a.Core).Ranges()
	}
	if err := a.findNested(ctx, m, physmem.With(&newerPages{own, l.pages}, known), s); err != nil {
		return err
	}
	for _, n := range m.Nested {
		for _, v := range n.VCPUs {
			if outer := l.intel[v.Addr]; outer != nil {
				n.FoundBy = FoundByKVM
				a.innerIntel(v, outer)
				if outer.from.Nested {
					v.TID, v.Thread, v.HostCPU = outer.TID, outer.Thread, outer.HostCPU
				}
			}
		}
	}
	return nil
}

// loaded is what the vCPUs of a machine have loaded of the machine's machines.
type loaded struct {
	// intel are the vCPUs by the guest-physical address of the VMCS (VMCS12)
	// that they have loaded, amd are those that run a VMCB (VMCB12).
	intel map[uint64]*VCPU
	amd   []*VCPU
	// pages are the host's copies of the VMCSs, which are newer than the
	// machine's memory.
	pages map[uint64][]byte
}

// loaded returns what m's vCPUs have loaded, by the host's KVM.
func (a *asked) loaded(m *Machine) *loaded {
	l := &loaded{intel: make(map[uint64]*VCPU), pages: make(map[uint64][]byte)}
	for _, v := range m.VCPUs {
		c := v.from
		switch {
		case c.VMX != nil && c.VMX.VMCS12 != ^uint64(0) && c.VMX.Cached12 != 0:
			page := make([]byte, vmcs.PageSize)
			if _, err := a.k.Read(page, c.VMX.Cached12); err != nil {
				a.keep(err)
				continue
			}
			l.intel[c.VMX.VMCS12], l.pages[c.VMX.VMCS12] = v, page
		case c.SVM != nil && c.Nested:
			l.amd = append(l.amd, v)
		}
	}
	return l
}

// ownKVM lists the machines that run in m by the KVM in m's own kernel. It
// reports whether it could: the list must not be empty if vCPUs run machines.
// Names, processes and threads are those of that kernel. Registers and state of
// a vCPU that runs are the host's, which are newer.
func (a *asked) ownKVM(ctx context.Context, m *Machine, s MachineSearch, l *loaded) (listed bool, err error) {
	if len(l.intel)+len(l.amd) == 0 && !m.Hypervisor() {
		return false, nil
	}
	k, err := m.Linux()
	if err != nil {
		return false, nil
	}
	hv, err := kvm.Open(k)
	if err != nil {
		return false, nil
	}
	in := &asked{
		Host:   &Host{Core: a.Core, Shortfall: a.Shortfall, Live: a.Live},
		within: m, mem: &newerPages{m.memory, l.pages}, k: k, hv: hv,
	}
	if err := in.list(ctx, s); err != nil || len(in.Machines) == 0 && len(l.intel)+len(l.amd) > 0 {
		return false, ctx.Err()
	}
	m.OwnKVM = true
	a.keep(errors.WithMessagef(in.KVMError, "KVM in guest %s", m.ID()))
	m.Nested = in.Machines
	if in.Found.Layout != nil {
		m.Found = in.Found
	}
	for _, v := range in.all {
		if outer := l.intel[v.VMCSAddr]; outer != nil && v.HasVMCS() {
			a.innerIntel(v, outer)
			continue
		}
		i := slices.IndexFunc(l.amd, func(outer *VCPU) bool { return v.VMCB != 0 && v.VMCB == outer.from.SVM.VMCB12 })
		if i >= 0 {
			a.innerAMD(v, l.amd[i])
		}
	}
	return true, nil
}

// innerIntel completes a vCPU of a machine's machine by the machine's vCPU on
// which it is loaded. While it runs, its state is in VMCS02 and KVM's copies;
// otherwise KVM has put it into VMCS12.
func (a *asked) innerIntel(v, outer *VCPU) {
	c := outer.from
	if !c.Nested {
		return
	}
	v.State = string(c.State)
	if in := a.known[c.VMX.VMCS02]; in != nil {
		v.VMCS.TakeGuestState(&in.VMCS)
	}
	v.Regs = RegistersIn(&v.VMCS)
	a.takeCopies(v.Regs, v, c)
	v.Regs.KernelGSBase = Register{} // the machine's own
}

// innerAMD is innerIntel for AMD's processors, where VMCB02 has the state.
func (a *asked) innerAMD(v, outer *VCPU) {
	c, own := outer.from, v.Regs
	v.State = string(c.State)
	v.VMCB, v.SVM, v.Regs = c.SVM.VMCB02&^a.k.EncryptionMask(), nil, new(Registers)
	if v.VMCB != 0 {
		a.readVMCB(v, outer.VMCB)
	}
	a.takeCopies(v.Regs, v, c)
	if own != nil {
		// The host sees bits in CR4 and EFER that the machine's KVM has set
		// and hides from its guest.
		v.Regs.CR4, v.Regs.EFER, v.Regs.APICID = own.CR4, own.EFER, own.APICID
	}
}

// innerMachine adds the vCPU that runs on AMD's processors in one of m's.
func (a *asked) innerMachine(m *Machine, outer *VCPU) {
	v := &VCPU{Vendor: AMD, TID: outer.TID, Thread: outer.Thread, HostCPU: outer.HostCPU, from: outer.from}
	a.innerAMD(v, outer)
	npt := outer.from.SVM.CR312
	i := slices.IndexFunc(m.Nested, func(n *Machine) bool { return n.npt == npt && npt != 0 })
	if i < 0 {
		i = len(m.Nested)
		m.Nested = append(m.Nested, &Machine{Number: i, FoundBy: FoundByKVM, Within: m, npt: npt})
		if mem, err := m.Memory(); err == nil {
			m.Nested[i].outer = mem
		}
	}
	n := m.Nested[i]
	v.Number = len(n.VCPUs)
	n.VCPUs = append(n.VCPUs, v)
}

// openNested opens the memory of a machine's machine on AMD's processors: by
// the nested page tables in the machine's memory.
func (m *Machine) openNested() (*Physical, error) {
	if m.npt == 0 || m.outer == nil {
		return nil, ErrNoEPT
	}
	levels := 4
	for _, v := range m.Within.VCPUs {
		if v.Regs != nil {
			levels = max(levels, x86.PagesLevels(v.Regs.CR4.Value))
		}
	}
	return &Physical{host: m.outer, ept: x86.NewTables(m.outer, x86.NPT(levels, 0), m.npt&x86.AddrMask)}, nil
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
