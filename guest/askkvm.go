package guest

import (
	"context"
	"iter"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/guest/internal/vmm"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// Bounds on what is kept of a host's machines, which a hostile dump may have
// any number of. No host runs as many.
const (
	maxMachines = 1 << 14
	maxVCPUs    = 1 << 16
	// maxCommands bounds the bytes of all command lines and cgroups.
	maxCommands = 64 << 20
)

// asked holds what the structures of a KVM have told so far.
type asked struct {
	*Host
	within   *Machine       // in whose kernel the KVM is; nil for the host's
	mem      physmem.Reader // the physical memory of that kernel
	info     string         // its VMCOREINFO, if it is in a note
	k        *linux.Kernel
	hv       *kvm.KVM
	vcpus    int
	commands int
	all      []*VCPU
	known    map[uint64]*vmcs.Candidate // VMCSs by their address
}

// askKVM lists the machines by KVM's own structures, without a search through
// memory. The error is why it cannot. If KVM's lists are torn, Machines are
// those that could be read, and KVMError is set.
func (h *Host) askKVM(ctx context.Context, s MachineSearch) error {
	a, err := h.openKernel()
	if err == nil {
		err = a.list(ctx, s)
	}
	info := VMCoreInfo(h.Core)
	h.KVMError = leftOut(h.KVMError, info)
	return leftOut(err, info)
}

// openKernel opens the host's kernel, and KVM in it.
func (h *Host) openKernel() (*asked, error) {
	k, err := kernelOf(h.Core)
	if err != nil {
		return nil, err
	}
	hv, err := kvm.Open(k)
	if err != nil {
		return nil, err
	}
	return &asked{Host: h, mem: h.Core, info: VMCoreInfo(h.Core), k: k, hv: hv}, nil
}

// list returns the machines of KVM, with all that is known of them. It fails
// if there is none because KVM's list cannot be read.
func (a *asked) list(ctx context.Context, s MachineSearch) error {
	if err := a.listMachines(ctx); err != nil {
		return err
	}
	if err := a.readVMCSs(ctx, s); err != nil {
		return err
	}
	for _, v := range a.all {
		a.complete(v, v.from)
	}
	for _, m := range a.Machines {
		m.settle()
		if a.within != nil {
			continue // a hostile guest could run itself, and so on
		}
		if err := a.nested(ctx, m, s); err != nil {
			return err
		}
	}
	return nil
}

// listMachines lists the machines, without VMCSs and registers.
func (a *asked) listMachines(ctx context.Context) error {
	a.Machines, a.KVMError = nil, nil
	a.keep(a.hv.VendorError)
	seen := make(map[uint64]bool) // a list that is a circle has some twice
	for m, err := range a.hv.Machines() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(a.Machines) == maxMachines {
			err = errors.WithMessage(linux.ErrTooMany, "virtual machines")
		}
		if a.keep(err); errors.Is(err, linux.ErrTooMany) {
			break
		}
		if err == nil && !seen[m.Addr] {
			seen[m.Addr] = true
			a.Machines = append(a.Machines, a.machine(m))
		}
	}
	if a.KVMError != nil && len(a.Machines) == 0 {
		err := a.KVMError
		a.KVMError = nil
		return err
	}
	// The newest machine comes first.
	slices.Reverse(a.Machines)
	for i, m := range a.Machines {
		m.Number = i
	}
	return nil
}

// keep keeps the first error.
func (a *asked) keep(err error) {
	if a.KVMError == nil && err != nil {
		a.KVMError = err
	}
}

// machine returns a machine with its process, slots and vCPUs, without
// registers.
func (a *asked) machine(from *kvm.Machine) *Machine {
	m := &Machine{FoundBy: FoundByKVM, Within: a.within, listed: true, outer: a.mem, PID: from.PID, tdx: from.TDX}
	a.process(m, from)
	slots, err := from.Slots()
	a.keep(err)
	m.Slots = make([]Slot, len(slots))
	for i, s := range slots {
		m.Slots[i] = Slot{GPA: s.GPA, HVA: s.HVA, Size: s.Size, Space: s.Space, ID: s.ID, Flags: s.Flags}
	}
	if user, err := a.k.UserMemory(from.MM); err == nil {
		m.proc = &Process{user.Tables()}
		m.Process = m.proc.tables.Root()
	} else {
		a.keep(err)
	}
	for c, err := range from.VCPUs() {
		if err == nil && a.vcpus == maxVCPUs {
			err = errors.WithMessage(linux.ErrTooMany, "vCPUs")
		}
		if a.keep(err); errors.Is(err, linux.ErrTooMany) {
			break
		}
		if err == nil {
			a.vcpus++
			m.VCPUs = append(m.VCPUs, a.vcpu(c))
		}
	}
	return m
}

// process tells which process runs the machine, and what the machine is called.
func (a *asked) process(m *Machine, from *kvm.Machine) {
	t, ok, err := from.Process()
	a.keep(err)
	if ok {
		// KVM keeps the thread that made the machine.
		if pid, err := t.TGID(); err == nil && pid > 0 {
			m.PID = pid
		}
		m.Comm, _ = t.Comm()
		if a.commands < maxCommands {
			m.Cgroup, _ = t.Cgroup()
			a.commands += len(m.Cgroup)
		}
	}
	if a.commands < maxCommands {
		// User memory: dumps leave it out as a rule.
		m.Command, _ = a.k.CommandLine(from.MM)
		for _, arg := range m.Command {
			a.commands += len(arg) + 16
		}
	}
	p := vmm.Process{PID: m.PID, Comm: m.Comm, Command: m.Command, Cgroup: m.Cgroup}
	m.Name, m.UUID = p.Name(), p.UUID()
}

// vcpu returns a vCPU without registers.
func (a *asked) vcpu(c *kvm.VCPU) *VCPU {
	v := &VCPU{Number: c.Index, TID: c.Thread, HostCPU: c.CPU, State: string(c.State), neverRan: c.NeverRan, from: c}
	if c.Task != nil {
		v.Thread, _ = c.Task.Comm()
	}
	switch {
	case a.hv.Intel:
		v.Vendor = Intel
	case a.hv.AMD:
		v.Vendor = AMD
	}
	switch {
	case c.TDX():
	case c.VMX != nil:
		v.VMCSAddr = c.VMX.VMCS
		if c.Nested {
			v.VMCSAddr = c.VMX.VMCS01
		}
	case a.hv.Intel && !c.Nested:
		v.VMCSAddr = a.inferVMCS(c)
	case a.hv.AMD:
		a.placeVMCB(v, c)
	}
	a.all = append(a.all, v)
	return v
}

// settle completes the machine by its vCPUs.
func (m *Machine) settle() {
	if m.Within != nil {
		m.npt = m.nestedCR3()
	}
	for _, v := range m.VCPUs {
		if !v.HasVMCS() {
			continue
		}
		eptp, ok := v.EPTPointer()
		m.Shadow = !ok
		if ok && eptp.Root() != 0 {
			m.EPTP, m.first = uint64(eptp), v
			return
		}
	}
}

// openKVM opens the memory of a machine that KVM listed. KVM's own slots tell
// where it lies in the process. What EPT or NPT map is read through these,
// because the guest itself saw it there.
func (m *Machine) openKVM() *Physical {
	mem := &Physical{host: m.outer, proc: m.proc}
	if m.proc != nil {
		mem.slots = usableSlots(m.Slots)
	}
	if m.EPTP != 0 {
		modeBased := m.first.Secondary()&x86.SecondaryModeBasedExecute != 0
		if ept, err := newEPT(m.outer, x86.EPTP(m.EPTP), modeBased); err == nil {
			mem.ept = ept
		}
	}
	if npt := m.NCR3(); npt != 0 && m.proc != nil {
		f := m.proc.tables.Format()
		mem.ept = x86.NewTables(m.outer, x86.NPT(f.Levels, f.Encrypted), npt&x86.AddrMask&^f.Encrypted)
	}
	return mem
}

// usableSlots returns the slots outside of system management mode, which KVM
// keeps sorted and disjoint. Those that are not, as in a damaged dump, are left
// out.
func usableSlots(all []Slot) (slots []Slot) {
	end := uint64(0)
	for _, s := range all {
		if s.Space != 0 || s.GPA < end || s.GPA >= x86.EPTEnd || s.Size > x86.EPTEnd-s.GPA || s.HVA > s.HVA+s.Size || (s.GPA|s.HVA|s.Size)%pageSize != 0 {
			continue
		}
		slots, end = append(slots, s), s.GPA+s.Size
	}
	return slots
}

// pagesAt returns a page at each of some addresses, which are sorted.
func pagesAt(addrs []uint64) iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, a := range addrs {
			if !yield(physmem.Range{Addr: a, Size: pageSize}) {
				return
			}
		}
	})
}
