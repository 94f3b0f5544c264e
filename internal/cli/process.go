package cli

import (
	"cmp"
	"context"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/inputfile"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A process is the core of a process that may have run a virtual machine.
type process struct {
	*vmcore.File
	path    string
	memory  physmem.Memory // by virtual address
	threads []qemucore.Thread
}

func (e *env) openProcess(ctx context.Context, path string) (*process, error) {
	c, err := e.open(ctx, path, vmcore.Open, false)
	if err != nil {
		return nil, err
	}
	p := &process{File: c, path: path}
	if err := p.attach(c.Core); err != nil {
		c.Close()
		return nil, err
	}
	return p, nil
}

// attach finds the memory and the threads in the core.
func (p *process) attach(c vmcore.Core) error {
	var ok bool
	if p.memory, ok = vmcore.ProcessMemory(c); !ok {
		return hint.With(inputfile.About(p.path, errors.New("not the core of a process")), "gcore and systemd-coredump write one of a running or crashed QEMU")
	}
	p.threads = qemucore.Threads(c.Notes())
	return nil
}

// match compares the process with the one that runs the machine.
func (p *process) match(m *guest.Machine) qemucore.Match {
	var slots []guest.Slot
	if mem, err := m.Memory(); err == nil {
		slots = mem.Slots()
	}
	return qemucore.Compare(m, p.memory, p.threads, slots)
}

// machine finds the machine that the process ran.
func (p *process) machine(h *guestlist.Host) (*guest.Machine, error) {
	if len(h.Machines) == 0 {
		return nil, errNone(h)
	}
	var best *guest.Machine
	var most uint64
	for _, m := range h.Machines {
		// Without address-space randomization several may look alike.
		if match := p.match(m); match.Belongs() && (best == nil || match.Same > most) {
			best, most = m, match.Same
		}
	}
	if best == nil {
		return nil, hint.With(errors.Errorf("%s is not the core of a process that runs one of the %s", p.path, message.Plural(len(h.Machines), "virtual machine")),
			"it must be of the same boot of the host, and of the same process")
	}
	return best, nil
}

// processNotes returns VMCSINFO and the vCPUs' notes of the machine that the
// process ran.
func (f *guestsFlags) processNotes(ctx context.Context, e *env, path string, p *process) ([]elfnote.Note, error) {
	c, err := e.open(ctx, path, vmcore.OpenMemory, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	h, err := f.find(ctx, e, c.Core)
	if err != nil {
		return nil, err
	}
	m, err := p.machine(h)
	if err != nil {
		return nil, err
	}
	if len(m.VCPUs) > 0 && m.VCPUs[0].Vendor == guest.AMD {
		return nil, hint.With(errors.Errorf("virtual machine %s runs on an AMD processor: there is no VMCS to add", m.ID()),
			"vmcsnote extract -o OUT --qemu-core CORE HOST_VMCORE takes the registers and memory slots out of the host's dump itself")
	}
	info, err := h.VmcsInfo()
	if err != nil {
		return nil, err
	}
	h.Machines = []*guest.Machine{m}
	if err := findRegisters(ctx, e, h); err != nil {
		return nil, err
	}
	e.Say("virtual machine %s ran in that process: %s", m.ID(), message.Plural(len(m.VCPUs), "vCPU"))
	if match := p.match(m); match.LacksGuest() {
		e.Say("warning: %s has none of the guest's memory", p.path)
		e.Hint(message.DumpItAll)
	} else {
		e.PartOfGuest(p.path, match)
	}
	var slots []guest.Slot
	mem, err := m.Memory()
	if err == nil {
		slots = mem.Slots()
	}
	if len(slots) == 0 {
		e.Say("warning: the notes will lack the place of the guest's memory in the process: %v", cmp.Or(err, errNoSlots))
	}
	var cpus []*qemucore.CPU
	for _, v := range m.VCPUs {
		if !v.HasVMCS() {
			continue
		}
		t, _ := qemucore.ThreadOf(v, p.threads)
		cpus = append(cpus, &qemucore.CPU{VMCS: &v.VMCS, Regs: v.Regs, Thread: t.PID, Slots: slots})
	}
	return qemucore.ProcessNotes(info, cpus), nil
}
