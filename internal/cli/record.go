package cli

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"time"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/record"
	"vmcsnote/sysfs"
)

func recordCommand() command {
	return command{
		name:  "record",
		short: "keep the running kernel's note for its capture environment",
		long: `Reads the pair in /sys/kernel/vmcsinfo and the note that it leads to, through
/dev/mem or else /proc/kcore, and writes both to one small text file, with the
kernel's release and the boot's id. Run it when kdump has been armed, and let
the file be part of the capture environment: inject finds it there.

If neither device can be read, only the pair is recorded; inject then reads the
note from the crashed kernel's memory.

If the kernel publishes no pair, the note is the file of
` + cpulayouts.OwnDir + ` or ` + cpulayouts.SharedDir + ` that fits the
processor: vendor, family, model, stepping, microcode and, if /dev/cpu/0/msr can
be read, the revision id of VMCSs. "vmcsnote layouts --submit" makes such a file
on one host, "vmcsnote layouts --install" puts it there on all others of that
model. If no file fits either, the exit status is 3.`,
		setup: func(fs *pflag.FlagSet) runner {
			src := sourceFlags{source.Request{Name: elfnote.VMCSInfo}}
			output := fs.StringP("output", "o", "", "write to `FILE` (default "+source.DefaultRecord+")")
			anyMicrocode := fs.Bool("any-microcode", false, "take a file of layouts of another microcode, too")
			force := fs.Bool("force", false, "replace FILE even if it is neither a record nor empty")
			addChoice(fs, &src.Memory, "memory", source.Auto, devices, "read the memory from `WHERE`")
			addRoot(fs, &src.Root, "")
			return func(_ context.Context, e *env, args []string) error {
				if len(args) > 0 {
					return usagef("record takes no arguments")
				}
				if err := src.check(); err != nil {
					return err
				}
				path := *output
				if path == "" {
					path = filepath.Join(src.Root, source.DefaultRecord)
				}
				return recordNote(e, e.finder(&src.Request, nil, false), path, *anyMicrocode, *force)
			}
		},
	}
}

// recordNote writes the record of the running kernel to path.
func recordNote(e *env, f *source.Finder, path string, anyMicrocode, force bool) error {
	r, s, err := runningKernel(e, f, anyMicrocode)
	if err != nil {
		return err
	}
	if s.Note.Desc != nil {
		r.Note = s.Note.Encode(binary.LittleEndian)
	}
	if err := record.WriteFile(path, r, force); err != nil {
		return named(path, err)
	}
	e.Recorded(path, s, r)
	return nil
}

// runningKernel returns a record of the running kernel, but for the note, and
// the note that it or the directory of layouts leads to.
func runningKernel(e *env, f *source.Finder, anyMicrocode bool) (r record.Record, s source.Source, err error) {
	sys := sysfs.New(f.Root)
	r.Time = time.Now().UTC().Truncate(time.Second)
	capture, err := sys.InCapture()
	if err != nil {
		return r, s, err
	}
	if capture {
		return r, s, hint.With(errors.New("this is a capture kernel: what it publishes is of no use for the crashed one"),
			"record the kernel that may crash, while it runs")
	}
	r.Pair, err = sys.VMCSInfo()
	switch {
	case errors.Is(err, sysfs.ErrNoPair):
		s, err = layoutOfMachine(f, anyMicrocode, err)
		r.Layout = s.Layout
	case err == nil:
		s, err = pairNote(e, f, r.Pair)
	}
	if err != nil {
		return r, s, err
	}
	if r.Release, err = sys.Release(); err != nil {
		return r, s, err
	}
	r.BootID, err = sys.BootID()
	return r, s, err
}

// pairNote reads the note at the pair. If memory cannot be read there is none,
// and no error: only the pair is recorded.
func pairNote(e *env, f *source.Finder, p sysfs.Pair) (source.Source, error) {
	s, err := f.FromPair(p)
	if err == nil || errors.Is(err, elfnote.ErrBlob) { // memory could be read, and holds no note
		return s, err
	}
	e.Say("warning: %v", err)
	e.Say("only the pair is recorded, not the note")
	return source.Source{}, nil
}

// layoutOfMachine takes the file of layouts that fits this machine's processor.
// noPair says why the kernel publishes no note.
func layoutOfMachine(f *source.Finder, anyMicrocode bool, noPair error) (source.Source, error) {
	if why := sysfs.New(f.Root).NoVMX(); why != "" {
		return source.Source{}, hint.With(errors.Wrap(source.ErrNone, why), "VMCSINFO describes Intel's processors with VMX: there is nothing to record here")
	}
	p, err := cpulayouts.Machine(f.Root)
	if err != nil {
		return source.Source{}, errors.Wrap(source.ErrNone, noPair.Error())
	}
	s, err := f.FromLayouts(p, anyMicrocode)
	return s, errors.WithMessage(err, noPair.Error())
}
