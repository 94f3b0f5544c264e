package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// guestsFlags say what to find, and what to print about it.
type guestsFlags struct {
	layout  string
	root    string // where layouts by processor are
	raw     bool
	guests  []string // what --guest names; none for all
	vcpu    string   // "" for all
	fields  commaList
	read    string
	verbose bool
	explain bool
	nested  bool
	// encrypted reads encrypted memory as ciphertext.
	encrypted bool
	asJSON    bool
	// wantLog asks for a kernel's log: the guest's, or without one the host's.
	wantLog bool

	span span // what read says
}

func guestsCommand() command {
	return command{
		name:  "guests",
		args:  "VMCORE...",
		short: "list the virtual machines in a host's dump, with their registers",
		long: `Lists the virtual machines of the crashed host, a line for each virtual CPU: its
machine's number and name, the pid of the process that runs it, its thread, the
host CPU it ran on, where it was (in the guest, halted, waiting, preempted, in
the host, in the VMM), and the guest's mode, RIP and last exit. No debug
information is needed: the kernel in the dump describes KVM's structures itself
(BTF). -v prints more: UUID, command line, cgroup, memory slots, all registers.

If the guest's memory is in the dump and it runs Linux, its kernel tells the
task that each vCPU ran and the function that it was in, the guest's release,
host name and uptime, and why it panicked; -v adds backtraces.

If the kernel has no BTF, the memory is searched for VMCSs, the pages in which
Intel's processors keep virtual CPUs. The layout of a VMCS comes from the dump's
VMCSINFO note, or from such a note in the dump's memory; otherwise from the file
in ` + cpulayouts.OwnDir + ` that is of the dump's processor; otherwise
the built-in layouts are tried. The first lines tell which way was used, and
why. A register that is not certain is a question mark. --read prints memory of
a guest, by guest-physical (gpa) or guest-virtual address (gva). --log prints
the log of the host's kernel or, with --guest, of that guest's, from its memory
in the dump.

A dump that makedumpfile --split wrote is given by all its pieces.

VMCORE may also be an image of LiME or AVML, an ELF core without notes or, with
--raw, raw memory.

The exit status is 3 if no VMCS is found and there is no note.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f guestsFlags
			fs.BoolVarP(&f.verbose, "verbose", "v", false, "print all that is known of each machine: its process and memory slots, all registers and all fields of the VMCS or VMCB")
			fs.BoolVar(&f.asJSON, "json", false, "print one JSON document with everything")
			fs.Var(&f.fields, "field", "print only the field or register `NAME`, a line for each vCPU; several with commas")
			fs.StringVar(&f.read, "read", "", "print memory at `gpa:0xADDR:LENGTH` or gva:0xADDR:LENGTH")
			fs.BoolVar(&f.explain, "explain", false, "search for VMCSs in any case; print why each page was taken for one or was not, and where KVM's structures disagree")
			fs.BoolVar(&f.wantLog, "log", false, "print the kernel's log as dmesg does: the host's own, or with --guest that guest's")
			f.add(fs)
			fs.StringVar(&f.vcpu, "vcpu", "", "only its vCPU `N`, counted from 0")
			return func(ctx context.Context, e *env, args []string) error {
				paths, err := dumpArgs(args)
				if err != nil {
					return err
				}
				if err := f.check(); err != nil {
					return err
				}
				return named(dumpName(paths), f.run(ctx, e, paths))
			}
		},
	}
}

// add adds the flags that guests, extract and report share.
func (f *guestsFlags) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.guests, "guest", nil, "only the virtual machine `WHICH`: its number in the list (N.M runs in N), pid, UUID or name; may be given several times")
	addRoot(fs, &f.root, "")
	fs.StringVar(&f.layout, "layout", "", "take the layout from `WHAT`: a blob, a record, another core, a directory of the kernel patches' version 3, or a name out of vmcsnote layouts")
	fs.BoolVar(&f.raw, "raw", false, "VMCORE is raw physical memory, from address 0 on")
	fs.BoolVar(&f.encrypted, "encrypted", false, "read the memory of a guest that is encrypted (SEV, TDX): it is ciphertext")
	fs.BoolVar(&f.nested, "nested", false, "look in every guest's memory for the guests that it runs, besides those that KVM tells")
}

// form says how the dump is opened.
func (f *guestsFlags) form() form {
	if f.raw {
		return rawForm
	}
	return vmcore.OpenMemory
}

func (f *guestsFlags) check() error {
	n := 0
	for _, set := range []bool{f.asJSON && !f.wantLog, len(f.fields) > 0, f.read != "", f.verbose, f.wantLog} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return usagef("--json, --field, --log, --read and --verbose: one at a time, except --log with --json")
	case f.explain && (len(f.fields) > 0 || f.read != "" || f.wantLog):
		return usagef("--explain goes with the list, --verbose or --json")
	case f.vcpu != "" && f.wantLog:
		return usagef("--vcpu cannot go with --log: the log is the whole guest's")
	case f.vcpu != "" && len(f.guests) == 0:
		return usagef("--vcpu needs --guest")
	case len(f.guests) > 1 && (f.vcpu != "" || f.read != "" || f.wantLog):
		return usagef("--vcpu, --read and --log take one guest: give --guest once")
	}
	for i, name := range f.fields {
		f.fields[i] = guestlist.FieldName(name)
	}
	if f.read == "" {
		return nil
	}
	var err error
	f.span, err = parseSpan(f.read)
	return err
}

// run prints what is asked for about one dump.
func (f *guestsFlags) run(ctx context.Context, e *env, paths []string) error {
	c, err := e.openDump(ctx, paths, f.form())
	if err != nil {
		return err
	}
	defer c.Close()
	if f.wantLog {
		return f.log(ctx, e, paths, c.Core)
	}
	h, err := f.find(ctx, e, c.Core)
	if err != nil {
		return err
	}
	h.Machines = outermost(h.Machines)
	if f.wantsRegisters(h) {
		if err := findRegisters(ctx, e, h); err != nil {
			return err
		}
	}
	if f.wantsSystems() {
		all := f.asJSON || f.verbose
		if err := look(ctx, e, h, inside.Options{Backtrace: all, Quick: !all && len(f.fields) == 0}); err != nil {
			return err
		}
	}
	switch {
	case f.read != "":
		return f.dump(e, h)
	case len(f.fields) > 0:
		return h.PrintFields(e.Stdout, f.fields)
	case f.asJSON:
		if !e.answer() {
			return nil
		}
		return h.WriteJSON(e.Stdout, paths, reportShortfall(h.Shortfall))
	}
	return h.Print(e.Stdout, dumpName(paths), guestlist.View{Verbose: f.verbose, Nested: f.nested, Explain: f.explain, Columns: e.Columns()})
}

// find finds the virtual machines in a dump, and leaves those that the flags
// name. Without any it is an error, unless a layout was known.
func (f *guestsFlags) find(ctx context.Context, e *env, c vmcore.Core) (*guestlist.Host, error) {
	h := &guestlist.Host{Host: guest.OpenHost(c)}
	e.Partial(h.Shortfall, "guests, registers and memory")
	if err := f.setLayout(ctx, e, h); err != nil {
		return nil, err
	}
	err := h.FindMachines(ctx, guest.MachineSearch{Nested: f.nested, Explain: f.explain, Progress: e.searching()})
	e.MoreNotes(h.MoreNotes, elfnote.VMCSInfo)
	var none *guest.NoVMCSError
	if errors.As(err, &none) {
		return nil, noVMCS{none.Found}
	}
	if err != nil {
		return nil, err
	}
	e.ProgressOver()
	for m := range h.All() {
		if f.encrypted {
			m.AllowEncrypted()
		}
	}
	return h, f.pick(h)
}

// searching shows the progress of the search for machines, for each memory that
// is searched.
func (e *env) searching() func(m *guest.Machine, done, total uint64) {
	const what = "looking for guests"
	show := e.Progress(what)
	if show == nil {
		return nil
	}
	var in *guest.Machine
	return func(m *guest.Machine, done, total uint64) {
		if m != in {
			e.ProgressOver()
			where := what
			if m != nil { // --explain searches the host after its guests
				where += " in guest " + m.ID()
			}
			show, in = e.Progress(where), m
		}
		show(int64(done), int64(total))
	}
}

// findRegisters completes the registers of all vCPUs.
func findRegisters(ctx context.Context, e *env, h *guestlist.Host) error {
	if err := h.FindRegisters(ctx, bytesOf(e.Progress("looking for registers"))); err != nil {
		return err
	}
	e.ProgressOver()
	return nil
}

// wantsRegisters reports whether what is printed has registers that KVM may
// know better than the VMCS. Finding them may read all memory once more.
func (f *guestsFlags) wantsRegisters(h *guestlist.Host) bool {
	if f.read != "" {
		return slices.ContainsFunc(h.Machines, func(m *guest.Machine) bool { return m.Shadow })
	}
	return len(f.fields) == 0 || f.wantsSystems() ||
		slices.ContainsFunc(f.fields, func(n string) bool { return slices.Contains(guestlist.RegisterNames(), n) })
}

// wantsSystems reports whether what is printed tells what runs in the machines.
func (f *guestsFlags) wantsSystems() bool {
	if f.read != "" {
		return false
	}
	return len(f.fields) == 0 || slices.ContainsFunc(f.fields, func(n string) bool { return slices.Contains(guestlist.SystemNames, n) })
}

// look finds out what runs in the machines.
func look(ctx context.Context, e *env, h *guestlist.Host, o inside.Options) (err error) {
	h.Systems, err = inside.All(ctx, h.Host, o, counting(e.Progress("looking into guests")))
	e.ProgressOver()
	return err
}

// counting turns a progress of bytes into one of things.
func counting(progress func(done, total int64)) func(done, total int) {
	if progress == nil {
		return nil
	}
	const size = 64 << 20 // the progress of fewer bytes is not printed
	return func(done, total int) { progress(int64(done)*size, int64(total)*size) }
}

// bytesOf turns a progress of signed numbers into one of unsigned ones.
func bytesOf(progress func(done, total int64)) func(done, total uint64) {
	if progress == nil {
		return nil
	}
	return func(done, total uint64) { progress(int64(done), int64(total)) }
}

// noVMCS means that no page of the dump is a VMCS by any known layout.
type noVMCS struct{ found *vmcs.Result }

func (n noVMCS) Error() string { return guestlist.NoVMCSText(n.found) }

func (n noVMCS) Unwrap() error { return source.ErrNone }

// Hint tells where the layout could come from.
func (n noVMCS) Hint() string {
	cure := "give --layout with any file of a host with the same processor and microcode that has VMCSINFO\n"
	if len(n.found.Strangers) == 0 {
		cure = "if guests ran on this host, " + cure
	}
	return cure + guestlist.AddHost
}

// errNone is the error if there is no machine to read; it tells what was
// searched.
func errNone(h *guestlist.Host) error {
	if h.NoKVM == nil {
		return errors.New("no virtual machine: " + h.NoneText())
	}
	return errors.Errorf("no virtual machine: by %s %s", h.LayoutText(), guestlist.NoVMCSText(h.Found))
}

// pick leaves the machines, each once, and the vCPU that the flags name.
func (f *guestsFlags) pick(h *guestlist.Host) error {
	if len(f.guests) == 0 {
		return nil
	}
	var picked []*guest.Machine
	for _, name := range f.guests {
		m, err := machine(h, name)
		if err != nil {
			return err
		}
		if !slices.Contains(picked, m) {
			picked = append(picked, m)
		}
	}
	h.Machines = picked
	if f.vcpu == "" {
		return nil
	}
	m := picked[0]
	for _, v := range m.VCPUs {
		if strconv.Itoa(v.Number) == f.vcpu {
			m.VCPUs, m.Nested = []*guest.VCPU{v}, nil
			return nil
		}
	}
	return errors.Errorf("virtual machine %s has no vCPU %s, it has %d, counted from 0", f.guests[0], message.Name(f.vcpu), len(m.VCPUs))
}

// outermost leaves out machines that run in another one of the list: a list of
// the outer one has them.
func outermost(ms []*guest.Machine) []*guest.Machine {
	return slices.DeleteFunc(slices.Clone(ms), func(m *guest.Machine) bool {
		for m = m.Within; m != nil && !slices.Contains(ms, m); m = m.Within {
		}
		return m != nil
	})
}

// maxNamesakes bounds how many machines of one name an error lists: microVMs
// can have the same socket's name by the thousand.
const maxNamesakes = 8

// machine returns the machine that name, a value of --guest, names.
func machine(h *guestlist.Host, name string) (*guest.Machine, error) {
	switch ms := h.Lookup(name); {
	case len(h.Machines) == 0:
		return nil, errNone(h)
	case len(ms) == 0:
		return nil, hint.With(errors.Errorf("no virtual machine %s", message.Name(name)), "vmcsnote guests lists them")
	case len(ms) > 1:
		var all []string
		for i, m := range ms {
			if i == maxNamesakes {
				all = append(all, fmt.Sprintf("and %d more", len(ms)-i))
				break
			}
			all = append(all, fmt.Sprintf("%s (%s, pid %d)", m.ID(), visible.Text(m.Name, ""), m.PID))
		}
		return nil, hint.With(errors.Errorf("--guest %s: several virtual machines: %s", message.Name(name), strings.Join(all, ", ")), "choose one by its number or pid; vmcsnote guests lists them")
	default:
		return ms[0], nil
	}
}
