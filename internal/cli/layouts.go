package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// A builtinReport is a built-in layout. Its JSON names are fixed.
type builtinReport struct {
	Name     string   `json:"name"`
	OtherIDs []string `json:"other_ids,omitempty"`
	Sources  []string `json:"sources"`
	Notes    []string `json:"notes,omitempty"`
	*layoutReport
}

func layoutsCommand() command {
	return command{
		name:  "layouts",
		args:  "[NAME|REVISION]",
		short: "list the VMCS layouts built in, or print one",
		long: `Lists the VMCS layouts that are built in, for hosts whose dump has no VMCSINFO.
With a layout's name, or a revision id, prints the layout as a table: encoding,
name, offset and width in bytes, flags, as doc/layouts.md tells.

With --submit prints the layout of this machine's processor, or of the core,
blob or record FILE, as a file for ` + cpulayouts.OwnDir + `.
"vmcsnote layouts --install FILE" puts it there on other hosts with that
processor, where record then needs no kernel module. It can also be sent in to
have the layout built in; there are no addresses in it. With --table it is
printed as a table instead.

With --learn prints, in the same form, what KVM's own copies in the dump VMCORE
of a host tell of the layout, for a processor of which there is no other: the
fields whose places are certain.

With --probe prints what the kernel module saw on a processor on which it could
not locate all fields; doc/layouts.md tells what it means.`,
		setup: func(fs *pflag.FlagSet) runner {
			f := layoutsFlags{set: fs}
			fs.BoolVar(&f.json, "json", false, "print one JSON document: a list of layouts, with their fields if one is named")
			f.mapped.add(fs)
			fs.BoolVar(&f.submit, "submit", false, "print a processor's layout as a file for other hosts; the argument is a FILE")
			fs.BoolVar(&f.learn, "learn", false, "print what can be learnt of the layout from KVM's copies; the argument is a host's dump")
			fs.BoolVar(&f.table, "table", false, "with --submit or --learn, print a table as those that are built in")
			fs.StringVar(&f.install, "install", "", "check `FILE`, and put it into "+cpulayouts.OwnDir)
			fs.BoolVar(&f.force, "force", false, "with --install, replace another layout of that processor")
			fs.StringVar(&f.dir, "dir", "", "with --submit, take the layout from `DIR`, where later kernel patches have a file for each field")
			fs.StringVar(&f.probe, "probe", "", "print what the kernel module saw: `FILE` is "+probeFile+", or a copy")
			addRoot(fs, &f.root, "with --submit or --install, ")
			return f.run
		},
	}
}

// layoutsFlags are the flags of the command: the built-in layouts are listed or
// printed unless another task is named.
type layoutsFlags struct {
	submission
	set            *pflag.FlagSet
	mapped         mapFlags
	json           bool
	submit         bool
	install, probe string // files; "" if not given
	force          bool
}

// check refuses flags that do not go together.
func (f *layoutsFlags) check(args []string) error {
	switch {
	case len(args) > 1:
		return usagef("one layout at a time, not %d", len(args))
	case f.learn && (f.submit || len(args) == 0 || f.dir != "" || f.root != "/"):
		return usagef("--learn takes a VMCORE, and nothing else but --table")
	case !f.submit && (f.dir != "" || f.table && !f.learn), !f.submit && f.install == "" && f.root != "/":
		return usagef("--dir, --table and --root go with --submit")
	case f.force && f.install == "":
		return usagef("--force goes with --install")
	case f.install != "" && (f.submit || f.learn || f.json || f.mapped.given() || len(args) > 0):
		return usagef("--install FILE takes nothing else but --force and --root")
	case f.probe != "" && (f.set.NFlag() > 1 || len(args) > 0):
		return usagef("--probe FILE takes nothing else")
	case (f.submit || f.learn) && (f.json || f.mapped.given()):
		return usagef("--submit and --learn print a layout, and nothing else")
	}
	return nil
}

func (f *layoutsFlags) run(ctx context.Context, e *env, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	switch {
	case f.probe != "":
		return e.probe(f.probe)
	case f.install != "":
		return e.install(f.root, f.install, f.force)
	case f.submit || f.learn:
		return f.submission.submit(ctx, e, args)
	}
	if err := f.mapped.check(f.json); err != nil {
		return err
	}
	layouts, err := chosen(args)
	switch {
	case err != nil:
		return err
	case f.json:
		return e.json(reportBuiltin(layouts, len(args) > 0))
	case f.mapped.given() && len(layouts) != 1:
		return usagef("--map draws one layout, not %d", len(layouts))
	case f.mapped.given():
		return f.mapped.draw(e, layouts[0], layouts[0].Name)
	case len(args) == 0:
		return e.listLayouts(layouts)
	}
	for _, l := range layouts {
		if _, err := io.WriteString(e.Stdout, l.Table()); err != nil {
			return err
		}
	}
	return nil
}

// chosen returns the built-in layouts that the argument names: all, those with
// a revision id, or one.
func chosen(args []string) ([]*vmcs.Layout, error) {
	layouts := vmcs.Builtin()
	if len(args) == 0 {
		return layouts, nil
	}
	if id, err := strconv.ParseUint(args[0], 0, 31); err == nil {
		layouts = vmcs.BuiltinFor(uint32(id))
	} else {
		layouts = slices.DeleteFunc(layouts, func(l *vmcs.Layout) bool { return l.Name != args[0] })
	}
	if len(layouts) == 0 {
		return nil, hint.With(fmt.Errorf("no layout %q is built in", args[0]), strings.TrimSpace(hint.DidYouMean(args[0], layoutNames())+" vmcsnote layouts lists them; a revision id has 0x before it"))
	}
	return layouts, nil
}

// layoutNames lists the names of the built-in layouts.
func layoutNames() (names []string) {
	for _, l := range vmcs.Builtin() {
		names = append(names, l.Name)
	}
	return names
}

func reportBuiltin(layouts []*vmcs.Layout, fields bool) []builtinReport {
	list := []builtinReport{}
	for _, l := range layouts {
		r := builtinReport{Name: l.Name, OtherIDs: otherIDs(l), Sources: l.Sources, Notes: l.Caveats}
		if !fields {
			l.Entries = nil
		}
		r.layoutReport = describeLayout(l)
		list = append(list, r)
	}
	return list
}

func otherIDs(l *vmcs.Layout) (ids []string) {
	for _, id := range l.OtherIDs {
		ids = append(ids, fmt.Sprintf("%#x", id))
	}
	return ids
}

// listLayouts lists layouts, a line each.
func (e *env) listLayouts(layouts []*vmcs.Layout) error {
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "name\trevision ids\tfields\taccess rights")
	for _, l := range layouts {
		ids := append([]string{fmt.Sprintf("%#x", l.RevisionID)}, otherIDs(l)...)
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", l.Name, strings.Join(ids, " "), len(l.Entries), l.AccessRights)
	}
	return w.Flush()
}

// A submission is a layout for other hosts, or to be built in.
type submission struct {
	dir, root    string
	table, learn bool
}

// submit prints the layout in the file named, or of this machine.
func (s submission) submit(ctx context.Context, e *env, args []string) error {
	var l *vmcs.Layout
	var err error
	var cpu vmcs.Processor
	switch {
	case s.learn:
		l, cpu, err = e.learn(ctx, args[0])
	case len(args) > 0 && s.dir != "":
		return usagef("--dir or a FILE, not both")
	case len(args) > 0:
		l, err = e.layoutOf(ctx, args[0])
	case s.dir != "":
		l, err = vmcs.ParseDir(os.DirFS(s.dir))
	default:
		l, err = s.machine(e)
	}
	if err != nil {
		return named(append(args, s.dir)[0], err)
	}
	if !s.learn && len(args) == 0 {
		cpu, _ = cpulayouts.Machine(s.root) // unknown without /proc/cpuinfo
	}
	cpu = stated(cpu, l)
	text := l.Text(cpu)
	if s.table {
		describe(l, cpu)
		text = l.Table()
	}
	_, err = io.WriteString(e.Stdout, visible.ASCII(text, "\n\t"))
	e.Submitted(l, cpu, s.table)
	return err
}

// machine returns the layout that this machine's kernel publishes, or has
// published when it was recorded.
func (s submission) machine(e *env) (*vmcs.Layout, error) {
	src, err := e.finder(source.OfMachine(s.root), nil, false).FromMachine()
	if err != nil {
		return nil, err
	}
	e.From(src)
	return vmcs.ParseNote(src.Note.Desc)
}
