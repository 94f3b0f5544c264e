package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// changeFlags are those of the commands that change a core.
type changeFlags struct {
	output    string
	dryRun    bool
	json      bool
	force     bool
	placement vmcore.Placement
	format    string
	jobs      int
	passOn    bool // inject: a stream that cannot be changed is passed on as it is
	root      string
}

func (f *changeFlags) add(fs *pflag.FlagSet) {
	fs.StringVarP(&f.output, "output", "o", "", "write the changed core to `FILE`, or to standard output (-), and leave VMCORE alone")
	fs.BoolVar(&f.force, "force", false, "let -o replace an existing file")
	addChoice(fs, &f.placement, "placement", "", placements, "in place, go only this `WAY`")
	addChoice(fs, &f.format, "format", same, formats, "with -o, write `FORM`")
	fs.BoolVarP(&f.dryRun, "dry-run", "n", false, "print what would be written where, and change nothing")
	fs.BoolVar(&f.json, "json", false, "print one JSON document; of several cores a list")
	fs.IntVar(&f.jobs, "jobs", runtime.GOMAXPROCS(0), "work on `N` cores at a time")
}

func (f *changeFlags) check(e *env, paths []string) error {
	if len(paths) == 0 {
		return usagef("VMCORE is missing")
	}
	path := paths[0]
	switch {
	case len(paths) > 1 && f.output != "":
		return usagef("-o is for one core, not for %d", len(paths))
	case len(paths) > 1 && slices.Contains(paths, "-"):
		return usagef("standard input cannot be one core of several")
	case path == "-" && f.output == "":
		return usagef("a core from standard input needs -o: it cannot be changed in place")
	case path == "-" && f.dryRun:
		return usagef("--dry-run needs a file: a stream can be read only once")
	case f.output == "-" && (f.json || f.dryRun):
		return usagef("-o - and --json or --dry-run both want standard output")
	case f.passOn && (path != "-" || f.output != "-"):
		return usagef("--pass-through is for a stream: VMCORE -, and -o -")
	case f.output != "" && f.placement != "":
		return usagef("--placement is for changes in place, not for -o")
	}
	if f.format == plain && (f.output == "" || path == "-") {
		return usagef("--format plain needs a file, and -o")
	}
	if _, ok := e.Stdout.(*visible.Screen); ok && f.output == "-" {
		return usagef("-o -: standard output is a terminal")
	}
	return nil
}

// What a changed copy may be.
const same, plain = "same", "plain"

var formats = choices{{same, "as the core's"}, {plain, "a flattened dump put together"}}

// A decision is how a command changes the notes that it finds.
type decision struct {
	splice elfnote.Splice
	alt    elfnote.Splice // the one to use if only the notes' end can change
	why    string         // for people: what is done, or why nothing is
}

// A changer decides on a change when it has seen the core. whole is false for
// a stream, whose memory cannot be read.
type changer func(ctx context.Context, e *env, c vmcore.Core, whole bool, r *changeReport) (decision, error)

// ofFile decides on a core in a file, and warns of the faults that this found.
func (decide changer) ofFile(ctx context.Context, e *env, c vmcore.Core, r *changeReport) (decision, error) {
	d, err := decide(ctx, e, c, true, r)
	if err == nil {
		e.Faults(c)
	}
	return d, err
}

// change carries a command's decision out on the cores at paths.
func (f *changeFlags) change(ctx context.Context, e *env, paths []string, decide changer) error {
	if err := f.check(e, paths); err != nil {
		return err
	}
	// If the reader of a pipe has gone, the write returns an error. SIGPIPE must
	// not end the process: what was begun must be undone.
	signal.Ignore(syscall.SIGPIPE)
	reports, err := each(e, paths, f.jobs, func(e *env, path string) (*changeReport, error) {
		r := &changeReport{File: path, Output: f.output, Placement: "none"}
		err := named(path, f.one(ctx, e, path, decide, r))
		if err != nil {
			r.Changed, r.Growth, r.Error = false, 0, err.Error()
		} else if !f.json && !f.dryRun {
			e.changed(*r)
		}
		return r, err
	})
	if !f.json || reports == nil {
		return err
	}
	if jerr := e.json(document(reports)); jerr != nil {
		return errors.Wrap(jerr, "done, but the report could not be printed")
	}
	return err
}

// one carries a decision out on one core.
func (f *changeFlags) one(ctx context.Context, e *env, path string, decide changer, r *changeReport) error {
	if err := f.checkSame(e, path); err != nil {
		return err
	}
	do := f.inPlace
	switch {
	case path == "-":
		do = f.stream
	case f.output != "":
		do = f.copy
	}
	err := do(ctx, e, path, decide, r)
	if err == nil {
		e.ProgressDone()
	}
	var perr *fs.PathError
	if errors.Is(err, inputfile.ErrFIFO) && errors.As(err, &perr) && perr.Path == path {
		return hint.With(err, "give - to read a stream, and -o")
	}
	return err
}

// checkSame refuses to write a core over itself by way of standard input or
// output. Package vmcore refuses two names of one file.
func (f *changeFlags) checkSame(e *env, path string) error {
	in, out := fileInfo(path, e.stdin), fileInfo(f.output, e.Stdout)
	if (path == "-" || f.output == "-") && in != nil && out != nil && in.Mode().IsRegular() && os.SameFile(in, out) {
		return errors.Wrap(vmcore.ErrSameFile, "-o "+f.output)
	}
	return nil
}

// fileInfo describes the file of that name, or stream if the name is "-". It
// returns nil if it cannot.
func fileInfo(name string, stream any) fs.FileInfo {
	var info fs.FileInfo
	if f, ok := stream.(*os.File); ok && name == "-" {
		info, _ = f.Stat()
	} else {
		info, _ = os.Stat(name)
	}
	return info
}

// named adds the name of the file at path to an error, unless the error names a
// file already, or is about the command line or a source of the note.
func named(path string, err error) error {
	if path == "-" {
		path = "standard input"
	}
	if path == "" || errors.As(err, new(errUsage)) || errors.As(err, new(source.Error)) {
		return err
	}
	return inputfile.About(path, err)
}

func (f *changeFlags) options(e *env, what string) vmcore.CopyOptions {
	return vmcore.CopyOptions{Overwrite: f.force, Plain: f.format == plain, Progress: e.Progress(what)}
}

func (f *changeFlags) inPlace(ctx context.Context, e *env, path string, decide changer, r *changeReport) error {
	open := vmcore.OpenFileRW
	if f.dryRun {
		open = vmcore.OpenFile
	}
	c, err := open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := decide.ofFile(ctx, e, c.Core, r)
	if err != nil {
		return err
	}
	r.why = d.why
	if d.splice.Empty() {
		return f.dry(e, r, "nothing to do: "+d.why)
	}
	p, err := c.Plan(d.splice, d.alt, f.placement)
	if err != nil {
		return err
	}
	r.Placement, r.Growth = p.Placement, p.Growth()
	if f.dryRun {
		return f.dry(e, r, p.String())
	}
	r.Changed = true
	e.held.Store(true)
	return p.Do(ctx, e.Progress(path))
}

func (f *changeFlags) copy(ctx context.Context, e *env, path string, decide changer, r *changeReport) error {
	c, err := e.open(ctx, path, vmcore.Open, true)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := decide.ofFile(ctx, e, c.Core, r)
	if err != nil {
		return err
	}
	opt := f.options(e, path)
	var l *vmcore.Layout
	switch {
	case f.dryRun:
		if l, err = c.PlanCopy(d.splice); err == nil {
			r.report(d, l)
			return f.dry(e, r, l.String())
		}
	case f.output == "-":
		if l, err = c.PlanCopy(d.splice); err == nil {
			err = c.WriteLayout(ctx, e.Stdout, l, opt)
		}
	default:
		if info, err := os.Stat(f.output); err != nil || info.Mode().IsRegular() {
			e.held.Store(true) // nobody can make it wait for ever, as with a pipe
		}
		l, err = c.CopyTo(ctx, f.output, d.splice, opt)
	}
	if err == nil {
		r.report(d, l)
	}
	return err
}

func (f *changeFlags) stream(ctx context.Context, e *env, _ string, decide changer, r *changeReport) error {
	var d decision
	edit := func(c vmcore.Core) (elfnote.Splice, error) {
		var err error
		d, err = decide(ctx, e, c, false, r)
		return d.splice, err
	}
	in, err := f.unpackStream(e)
	if err != nil {
		return err
	}
	defer in.Close()
	var l *vmcore.Layout
	if f.output == "-" {
		l, err = vmcore.StreamWithin(ctx, e.Stdout, in.Reader, edit, f.memory())
	} else {
		l, err = vmcore.StreamTo(ctx, f.output, in.Reader, edit, f.options(e, f.output))
	}
	if damage := in.sound(); damage != nil && (err == nil || errors.Is(err, vmcore.ErrTruncated)) {
		err = damage
	}
	var whole *vmcore.Unwritten
	if f.passOn && errors.As(err, &whole) {
		e.Say("warning: %v", named("-", err))
		r.why = "passed on unchanged, without the note"
		return whole.PassOn(ctx, e.Stdout)
	}
	var broken *vmcore.Broken
	if f.passOn && errors.As(err, &broken) {
		if werr := broken.PassOn(ctx, e.Stdout); werr != nil {
			return fmt.Errorf("%v; the rest could not be passed on: %w", err, werr)
		}
		return fmt.Errorf("%w; standard output holds the whole input, unchanged from %#x on", err, broken.At)
	}
	if err == nil {
		r.report(d, l)
	}
	return err
}

// memory returns how many bytes of a stream's headers and notes may be kept.
// With --pass-through that is a small part of the memory available: if memory
// ran out in a capture environment, the dump would be lost.
func (f *changeFlags) memory() int64 {
	const all, little = 64 << 20, 8 << 20
	if !f.passOn {
		return all
	}
	free, err := sysfs.New(f.root).MemAvailable()
	if err != nil {
		return little
	}
	return min(max(free/16, little), all)
}

// byName returns the indices of the notes of that name.
func byName(s *elfnote.Segment, name string) []int {
	var is []int
	for i, n := range s.Notes {
		if n.Name == name {
			is = append(is, i)
		}
	}
	return is
}
