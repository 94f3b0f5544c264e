package cli

import (
	"context"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// errDiffers: the core has a note of that name with other contents.
var errDiffers = errors.New("the core already has another one")

func injectCommand() command {
	return command{
		name:  "inject",
		args:  "VMCORE...",
		short: "add the note to a core",
		long: `Adds the VMCSINFO note to a dump next to VMCOREINFO, in place unless -o is
given: to an ELF core, and to a kdump-compressed or flattened dump. At every
moment the file is the old core or the new one, whatever dies.
VMCORE may be - for a stream, which is passed on in one pass. If one of several
cores fails, the others are done all the same.

Without --blob, --pair, --record or --search the note is taken from the first of
these that has it: the record ` + source.DefaultRecord + `, if it is of the core's
kernel; /sys/kernel/vmcsinfo, if the running kernel is the core's; the core's
own memory, as with --search, but not in a capture environment, and not for a
stream; if so, also the file in ` + cpulayouts.OwnDir + ` that is of the
core's processor. A message tells which source was used. If none has the note,
the exit status is 3; also if --record names a file that does not exist. If the
core already has the same note, nothing is done.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f injectFlags
			f.src.add(fs)
			fs.BoolVar(&f.replace, "replace", false, "replace a note of that name that has other contents")
			f.chg.add(fs)
			fs.BoolVar(&f.chg.passOn, "pass-through", false, "if a stream cannot be changed, or there is no note, write it unchanged, warn, and exit with 0")
			fs.StringVar(&f.vmcsFrom, "vmcs-from", "", "add VMCSINFO and the vCPUs' VMCSs from the dump `HOST_VMCORE` to VMCORE, a core of the process that ran them")
			return f.run
		},
	}
}

// injectFlags say where the note comes from and how the core is changed.
type injectFlags struct {
	src      sourceFlags
	chg      changeFlags
	replace  bool
	vmcsFrom string // a host's dump; then src is not used
}

func (f *injectFlags) run(ctx context.Context, e *env, args []string) error {
	if err := f.src.check(); err != nil {
		return err
	}
	f.chg.root = f.src.Root
	if f.vmcsFrom == "" {
		return f.chg.change(ctx, e, args, f.decide)
	}
	if f.src.Given() {
		return usagef("--vmcs-from cannot be combined with another source")
	}
	if err := notOver(f.chg.output, []string{f.vmcsFrom}); err != nil {
		return err
	}
	return f.chg.change(ctx, e, args, func(ctx context.Context, e *env, c vmcore.Core, whole bool, r *changeReport) (decision, error) {
		return decideVMCS(ctx, e, c, whole, f.vmcsFrom, r)
	})
}

// decide finds the note for a core, and decides what to do with it.
func (f *injectFlags) decide(ctx context.Context, e *env, c vmcore.Core, whole bool, r *changeReport) (decision, error) {
	finder := e.finder(&f.src.Request, c, whole)
	s, err := finder.Find(ctx)
	if err != nil {
		return decision{}, err
	}
	e.From(s)
	r.Source, r.NoteSize = s.Kind, len(s.Note.Desc)
	if n := s.Note; n.Name == elfnote.VMCSInfo {
		if l, err := vmcs.ParseNote(n.Desc); err != nil {
			e.Say("warning: no VMCS layout can be read from it: %v", err)
		} else {
			e.otherProcessor(finder, c, l)
		}
	}
	return decideInject(c, s.Note, f.replace)
}

// decideVMCS decides how to add the VMCSs of a process's vCPUs to its core.
func decideVMCS(ctx context.Context, e *env, c vmcore.Core, whole bool, host string, r *changeReport) (decision, error) {
	if !whole {
		return decision{}, usagef("--vmcs-from: a stream's memory arrives after the notes")
	}
	p := &process{path: r.File}
	if err := p.attach(c); err != nil {
		return decision{}, err
	}
	var f guestsFlags
	notes, err := f.processNotes(ctx, e, host, p)
	if err != nil {
		return decision{}, source.Error{Err: errors.Wrap(err, host)}
	}
	sp, err := qemucore.AddNotes(c.Notes(), notes)
	if err != nil {
		return decision{}, err
	}
	r.Source = "vmcs-from"
	for _, n := range notes {
		r.NoteSize += len(n.Desc)
	}
	if sp.Empty() {
		return decision{why: "VMCSINFO and the VMCSs are already there, unchanged"}, nil
	}
	return decision{sp, sp, "VMCSINFO and " + message.Plural(len(notes)-1, "VMCS") + " added, " + message.Size(int64(r.NoteSize))}, nil
}

// decideInject decides how to add n to the notes.
func decideInject(c vmcore.Core, n elfnote.Note, replace bool) (decision, error) {
	s := c.Notes()
	is := byName(s, n.Name)
	if len(is) > 1 {
		return decision{}, hint.With(
			errors.Errorf("%d notes are named %s, two of them at %#x and %#x, expected at most one",
				len(is), n.Name, c.NotesOff()+s.Notes[is[0]].Off, c.NotesOff()+s.Notes[is[1]].Off),
			"vmcsnote show tells them apart, vmcsnote remove takes the last one out")
	}
	if len(is) == 0 {
		return decision{s.Insert(n), s.Append(n), n.Name + " added, " + message.Size(int64(len(n.Desc)))}, nil
	}
	was, err := s.Note(is[0], elfnote.MaxBlob)
	if err == nil && was.Equal(n) {
		return decision{why: n.Name + " is already there, unchanged"}, nil
	}
	if !replace {
		return decision{}, hint.With(
			errors.Wrapf(errDiffers, "%s, %d bytes where the new one has %d", n.Name, s.Notes[is[0]].DescSize, len(n.Desc)),
			"--replace puts the new one in its place; vmcsnote show tells what is there")
	}
	sp := s.Replace(is[0], n)
	return decision{sp, sp, n.Name + " replaced, " + message.Size(int64(len(n.Desc)))}, nil
}
