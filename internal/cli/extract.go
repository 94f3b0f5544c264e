package cli

import (
	"cmp"
	"context"
	"os"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/inputfile"
	"vmcsnote/physmem"
	"vmcsnote/svm"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

func extractCommand() command {
	return command{
		name:  "extract",
		args:  "VMCORE...",
		short: "write a guest out of a host's dump as a core of its own",
		long: `Writes the virtual machine that --guest names as an ELF core that crash, gdb,
drgn and makedumpfile open: its memory by guest-physical address, the registers
of each vCPU (NT_PRSTATUS, and a QEMU note as dump-guest-memory writes it), and
the guest's own VMCOREINFO if it is a Linux. Messages tell what is missing.
--all writes every guest into the directory OUT, each under its name; one that
fails does not stop the others, and the exit status is 1 then. -o must be given.

makedumpfile leaves the memory of guests out of most dumps. --qemu-core FILE
takes it from a core of the process that ran the guest (gcore,
systemd-coredump). If vmcsnote inject --vmcs-from has added its notes to FILE,
VMCORE may be left out.

A dump that makedumpfile --split wrote is given by all its pieces.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f guestsFlags
			out := fs.StringP("output", "o", "", "write the core to `OUT`; with --all, the cores into the directory OUT")
			all := fs.Bool("all", false, "write every guest")
			qemu := fs.String("qemu-core", "", "take the guest's memory from `FILE`, a core of the process that ran it")
			force := fs.Bool("force", false, "replace OUT if it exists")
			f.addLayout(fs)
			return func(ctx context.Context, e *env, args []string) error {
				if *out == "" {
					return usagef("-o OUT is required")
				}
				if *out == "-" {
					return usagef("-o -: the core needs a file, because it has holes and its header is written last")
				}
				if *all && (f.guest != "" || *qemu != "") {
					return usagef("--all writes every guest: leave out --guest and --qemu-core")
				}
				if err := notOver(*out, append(args, *qemu)); err != nil {
					return err
				}
				if len(args) == 0 && *qemu != "" {
					return named(*qemu, f.fromNotes(ctx, e, *qemu, *out, *force))
				}
				paths, err := dumpArgs(args)
				if err != nil {
					return err
				}
				if *all {
					return named(dumpName(paths), f.extractAll(ctx, e, paths, *out, *force))
				}
				return named(dumpName(paths), f.extract(ctx, e, paths, *qemu, *out, *force))
			}
		},
	}
}

// notOver refuses to write over the dumps that are read: with --force they would
// be lost.
func notOver(out string, dumps []string) error {
	info, err := os.Stat(out)
	if err != nil {
		return nil // it does not exist, or opening it will tell
	}
	for _, d := range dumps {
		if in, err := os.Stat(d); err == nil && os.SameFile(in, info) {
			return hint.With(errors.Errorf("-o %s: that is the dump itself", out), "give the new file another name")
		}
	}
	return nil
}

// extract writes a guest of the host's dump at paths.
func (f *guestsFlags) extract(ctx context.Context, e *env, paths []string, qemu, out string, force bool) error {
	c, err := e.openDump(ctx, paths, f.form())
	if err != nil {
		return err
	}
	defer c.Close()
	h, err := f.find(ctx, e, c.Core)
	if err != nil {
		return err
	}
	var p *process
	if qemu != "" {
		if p, err = e.openProcess(ctx, qemu); err != nil {
			return err
		}
		defer p.Close()
	}
	m, err := f.choose(h, p)
	if err != nil {
		return err
	}
	h.Machines = []*guest.Machine{m}
	if err := findRegisters(ctx, e, h); err != nil {
		return err
	}
	for _, text := range h.Warnings() {
		e.Say("%s", text)
	}
	return f.write(ctx, e, h, m, p, out, force)
}

// write writes a machine of the host. Its memory is the host's or, if p is not
// nil, the process's.
func (f *guestsFlags) write(ctx context.Context, e *env, h *guestlist.Host, m *guest.Machine, p *process, out string, force bool) error {
	e.Say("virtual %s, found by %s", guestlist.MachineText(m), h.FoundText())
	mem, err := m.Memory()
	if errors.Is(err, guest.ErrNoEPT) {
		return hint.With(err, "vmcsnote guests -v prints its registers, vmcsnote guests --read gva:0xADDR:LENGTH memory by virtual address")
	}
	if err != nil {
		return errEncrypted(err)
	}
	if m.Encryption() != svm.NotEncrypted {
		e.Say("warning: %s: what is written of it is ciphertext, but for pages that the guest shares with its host", guestlist.EncryptedText(m))
	}
	if mem.Empty() {
		return hint.With(errors.New("none of the guest's memory: "+guestlist.EmptyEPT), "vmcsnote guests -v prints its registers")
	}
	if most := h.MaxGuest(); p == nil && mem.Exceeds(most) {
		return hint.With(errors.Errorf("the guest's page tables map more than %s, expected at most 64 times the host's memory", message.Size(int64(most))),
			"these tables are damaged or forged; vmcsnote guests --read reads memory at one address")
	}
	x := guest.Extraction{Mem: mem}
	if p != nil {
		if len(mem.Slots()) == 0 {
			return errNoSlots
		}
		match := p.match(m)
		if match.LacksGuest() {
			return hint.With(errors.Errorf("%s has none of the guest's memory", p.path), message.DumpItAll)
		}
		e.PartOfGuest(p.path, match)
		x.Mem = qemucore.NewGuestMemory(p.memory, mem.Slots())
	}
	for _, v := range m.VCPUs {
		x.VCPUs = append(x.VCPUs, v.Regs)
	}
	cure := message.TakeQEMUCore
	switch {
	case p != nil:
		cure = message.DumpItAll
	case len(h.Shortfall.Lacking) > 0:
		cure = takeAllPieces
	}
	return writeGuest(ctx, e, x, out, force, cure)
}

// choose returns the machine that --guest names, the one that the process ran, or
// the only one.
func (f *guestsFlags) choose(h *guestlist.Host, p *process) (*guest.Machine, error) {
	if len(h.Machines) == 0 {
		return nil, errNone(h)
	}
	if p != nil && f.guest == "" {
		return p.machine(h)
	}
	if len(h.Machines) != 1 {
		return nil, hint.With(errors.Errorf("the dump has %s", message.Plural(len(h.Machines), "virtual machine")), "choose one with --guest, or take --all; vmcsnote guests lists them")
	}
	m := h.Machines[0]
	if p != nil && !p.match(m).Belongs() {
		return nil, hint.With(errors.Errorf("%s is no core of the process that ran virtual machine %s", p.path, message.Name(f.guest)), "leave out --guest to find the right one")
	}
	return m, nil
}

// fromNotes writes the guest of a process's core by the core's own notes.
func (f *guestsFlags) fromNotes(ctx context.Context, e *env, qemu, out string, force bool) error {
	p, err := e.openProcess(ctx, qemu)
	if err != nil {
		return err
	}
	defer p.Close()
	n, ok := readVMCSInfo(p.Core)
	if !ok {
		return hint.With(errors.New("it has no VMCSINFO and no VMCS notes"), addThem)
	}
	l, err := vmcs.ParseNote(n.Desc)
	if err != nil {
		return err
	}
	cpus, err := qemucore.CPUs(p.Notes(), l)
	if err != nil {
		return err
	}
	var x guest.Extraction
	var slots []guest.Slot
	for _, c := range cpus {
		x.VCPUs = append(x.VCPUs, c.Regs)
		slots = c.Slots
	}
	switch {
	case len(cpus) == 0:
		return hint.With(errors.New("it has VMCSINFO, but no VMCS notes"), addThem)
	case len(slots) == 0:
		return errNoSlots
	}
	x.Mem = qemucore.NewGuestMemory(p.memory, slots)
	return writeGuest(ctx, e, x, out, force, message.DumpItAll)
}

// addThem is the cure for a process's core without the notes.
const addThem = "vmcsnote inject --vmcs-from HOST_VMCORE adds them, or give the host's dump"

// errNoSlots means that nothing tells where in the process the guest's memory is.
var errNoSlots = errors.New("the host's dump does not tell where in the process the guest's memory is")

// writeGuest writes the guest; cure is the hint if none of its memory is there.
func writeGuest(ctx context.Context, e *env, x guest.Extraction, out string, force bool, cure string) error {
	x.Overwrite, x.Progress = force, e.Progress(out)
	s, err := x.Write(ctx, out)
	if err == nil {
		e.ProgressDone()
	}
	if s != nil {
		_, inProcess := x.Mem.(*qemucore.GuestMemory)
		e.Extracted(out, s, inProcess, err == nil)
	}
	if errors.Is(err, vmcore.ErrNoMemory) {
		return hint.With(err, cure)
	}
	return err
}

// takeAllPieces is the cure for a part of a split dump whose page tables or
// pages are in another piece.
const takeAllPieces = "name all pieces of the split dump: the guest's memory, or its page tables, are in another one"

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

// attach takes the memory and the threads out of the core.
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
		return nil, hint.With(errors.Errorf("%s is no core of a process that runs one of the %s", p.path, message.Plural(len(h.Machines), "virtual machine")),
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
