package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
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
-o must be given.

If --guest is given several times, those guests are written into the directory
OUT, each under its name; --all writes every guest there. The dump is searched
once for all of them. One that fails does not stop the others, and the exit
status is 1 then.

makedumpfile leaves the memory of guests out of most dumps. --qemu-core FILE
takes it from a core of the process that ran the guest (gcore,
systemd-coredump). If vmcsnote inject --vmcs-from has added its notes to FILE,
VMCORE may be left out.

A dump that makedumpfile --split wrote is given by all its pieces.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f extractFlags
			fs.StringVarP(&f.out, "output", "o", "", "write the core to `OUT`; with --all or several --guest, the cores into the directory OUT")
			fs.BoolVar(&f.all, "all", false, "write every guest")
			fs.StringVar(&f.qemu, "qemu-core", "", "take the guest's memory from `FILE`, a core of the process that ran it")
			fs.BoolVar(&f.force, "force", false, "replace OUT if it exists")
			f.add(fs)
			return f.run
		},
	}
}

// extractFlags say which guests to write, and where to.
type extractFlags struct {
	guestsFlags
	out   string // a file, or a directory for several guests
	all   bool
	qemu  string // a core of the process that ran the guest; "" for none
	force bool
}

// several reports whether OUT is a directory.
func (f *extractFlags) several() bool { return f.all || len(f.guests) > 1 }

// check refuses flags that do not go together.
func (f *extractFlags) check(args []string) error {
	switch {
	case f.out == "":
		return usagef("-o OUT is required")
	case f.out == "-":
		return usagef("-o -: the core needs a file, because it has holes and its header is written last")
	case f.all && (len(f.guests) > 0 || f.qemu != ""):
		return usagef("--all writes every guest: leave out --guest and --qemu-core")
	case f.several() && f.qemu != "":
		return usagef("--qemu-core is of one guest: give one --guest")
	}
	return notOver(f.out, append(args, f.qemu))
}

func (f *extractFlags) run(ctx context.Context, e *env, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	if len(args) == 0 && f.qemu != "" {
		return named(f.qemu, f.fromNotes(ctx, e))
	}
	paths, err := dumpArgs(args)
	if err != nil {
		return err
	}
	return named(dumpName(paths), f.extract(ctx, e, paths))
}

// extract writes the guests asked for out of the dump at paths.
func (f *extractFlags) extract(ctx context.Context, e *env, paths []string) error {
	c, err := e.openDump(ctx, paths, f.form())
	if err != nil {
		return err
	}
	defer c.Close()
	h, err := f.find(ctx, e, c.Core)
	switch {
	case err != nil:
		return err
	case f.all:
		return f.extractSeveral(ctx, e, h, slices.Collect(h.All()), paths)
	case f.several():
		return f.extractSeveral(ctx, e, h, h.Machines, paths)
	}
	return f.extractOne(ctx, e, h)
}

// notOver refuses to write over the dumps that are read: with --force they
// would be lost.
func notOver(out string, dumps []string) error {
	info, err := os.Stat(out)
	if err != nil {
		return nil // it does not exist, or opening it will fail
	}
	for _, d := range dumps {
		if in, err := os.Stat(d); err == nil && os.SameFile(in, info) {
			return hint.With(errors.Errorf("-o %s: that is the dump itself", out), "give the new file another name")
		}
	}
	return nil
}

// extractOne writes the guest that --guest or --qemu-core leads to, or the only
// one.
func (f *extractFlags) extractOne(ctx context.Context, e *env, h *guestlist.Host) error {
	var p *process
	if f.qemu != "" {
		var err error
		if p, err = e.openProcess(ctx, f.qemu); err != nil {
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
	return f.write(ctx, e, h, m, p, f.out)
}

// write writes a machine of the host. Its memory is the host's or, if p is not
// nil, the process's.
func (f *extractFlags) write(ctx context.Context, e *env, h *guestlist.Host, m *guest.Machine, p *process, out string) error {
	e.Say("virtual %s, found by %s", guestlist.MachineText(m), h.FoundText())
	mem, err := m.Memory()
	if errors.Is(err, guest.ErrNoEPT) {
		return hint.With(err, "vmcsnote guests -v prints its registers, vmcsnote guests --read gva:0xADDR:LENGTH memory by virtual address")
	}
	if err != nil {
		return errEncrypted(err)
	}
	if m.Encryption() != guest.NotEncrypted {
		e.Say("warning: %s: the new file holds ciphertext, except for pages that the guest shares with its host", guestlist.EncryptedText(m))
	}
	if mem.Empty() {
		return hint.With(errors.New("none of the guest's memory: "+guestlist.EmptyEPT), "vmcsnote guests -v prints its registers")
	}
	if most := h.MaxGuest(); p == nil && mem.Exceeds(most) {
		return hint.With(errors.Errorf("the guest's page tables map more than %s, expected at most 64 times the host's memory", message.Size(int64(most))),
			"these tables are damaged or forged; vmcsnote guests --read reads memory at one address")
	}
	x := guest.Extraction{Mem: mem, Machine: m}
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
	return writeGuest(ctx, e, x, out, f.force, cure)
}

// choose returns the machine that --guest names, the one that the process ran,
// or the only one.
func (f *guestsFlags) choose(h *guestlist.Host, p *process) (*guest.Machine, error) {
	if len(h.Machines) == 0 {
		return nil, errNone(h)
	}
	if p != nil && len(f.guests) == 0 {
		return p.machine(h)
	}
	if len(h.Machines) != 1 {
		return nil, hint.With(errors.Errorf("the dump has %s", message.Plural(len(h.Machines), "virtual machine")), "choose some with --guest, or take --all; vmcsnote guests lists them")
	}
	m := h.Machines[0]
	if p != nil && !p.match(m).Belongs() {
		return nil, hint.With(errors.Errorf("%s is not the core of the process that ran virtual machine %s", p.path, message.Name(f.guests[0])), "leave out --guest to find the right one")
	}
	return m, nil
}

// fromNotes writes the guest of a process's core by the core's own notes.
func (f *extractFlags) fromNotes(ctx context.Context, e *env) error {
	p, err := e.openProcess(ctx, f.qemu)
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
	return writeGuest(ctx, e, x, f.out, f.force, message.DumpItAll)
}

// addThem is the cure for a process's core without the notes.
const addThem = "vmcsnote inject --vmcs-from HOST_VMCORE adds them, or give the host's dump"

// errNoSlots means that nothing tells where in the process the guest's memory
// is.
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

// extractSeveral writes a core of each of the host's machines ms into the
// directory OUT. One pass over the dump finds the registers of all of them. A
// guest that fails does not stop the others.
func (f *extractFlags) extractSeveral(ctx context.Context, e *env, h *guestlist.Host, ms []*guest.Machine, paths []string) error {
	if len(ms) == 0 {
		return errNone(h)
	}
	if err := findRegisters(ctx, e, h); err != nil {
		return err
	}
	if err := makeDir(f.out); err != nil {
		return err
	}
	for _, text := range h.Warnings() {
		e.Say("%s", text)
	}
	names := make(fileNames)
	failed := false
	for _, m := range ms {
		out := filepath.Join(f.out, names.of(m))
		err := notOver(out, paths)
		if err == nil {
			err = f.write(ctx, e, h, m, nil, out)
		}
		m.Forget()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx) // it is not about this guest
		default:
			failed = true
			e.Failure(errors.WithMessage(named(dumpName(paths), err), guestlist.MachineText(m)))
		}
	}
	if failed {
		return errSome{exitFailed}
	}
	return nil
}

// makeDir makes a directory, unless it exists.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o777)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil || info.IsDir() {
		return err
	}
	return hint.With(&os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}, "several guests need a directory, or a new name for one")
}

// fileNames are the names given so far, in lower case: some file systems do not
// tell the cases apart.
type fileNames map[string]bool

// of returns a new name for a machine's core. Names of machines are their
// owners' choice: what a path or a shell could take for something else is
// replaced.
func (names fileNames) of(m *guest.Machine) string {
	const most = 100 // file systems take 255 bytes
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.+@[]", r) {
			return r
		}
		return '_'
	}, m.Name)
	clean = strings.TrimLeft(clean[:min(len(clean), most)], ".-")
	if clean == "" {
		clean = "guest-" + m.ID()
	}
	name := clean + ".core"
	for i := 0; names[strings.ToLower(name)]; i++ {
		if name = clean + "-guest-" + m.ID() + ".core"; i > 0 {
			name = fmt.Sprintf("%s-guest-%s-%d.core", clean, m.ID(), i)
		}
	}
	names[strings.ToLower(name)] = true
	return name
}
