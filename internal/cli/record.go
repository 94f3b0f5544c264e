package cli

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"time"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
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

If neither device can be read, the pair is kept alone; inject then reads the
note from the crashed kernel's memory. Without a pair the exit status is 3.`,
		setup: func(fs *pflag.FlagSet) runner {
			src := sourceFlags{source.Request{Name: elfnote.VMCSInfo}}
			output := fs.StringP("output", "o", "", "write to `FILE` (default "+source.DefaultRecord+")")
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
				return recordNote(e, e.finder(&src.Request, nil, false), path, *force)
			}
		},
	}
}

// recordNote writes the record of the running kernel to path.
func recordNote(e *env, f *source.Finder, path string, force bool) error {
	r, err := runningKernel(sysfs.New(f.Root))
	if err != nil {
		return err
	}
	s, err := f.FromPair(r.Pair)
	switch {
	case errors.Is(err, elfnote.ErrBlob):
		return err // memory could be read, and holds no note
	case err != nil:
		e.say("warning: %v", err)
		e.say("the pair is kept alone")
	default:
		r.Note = s.Note.Encode(binary.LittleEndian)
	}
	if err := record.WriteFile(path, r, force); err != nil {
		return named(path, err)
	}
	e.recorded(path, s, r)
	return nil
}

// runningKernel returns a record of the running kernel, but for the note.
func runningKernel(sys sysfs.FS) (record.Record, error) {
	r := record.Record{Time: time.Now().UTC().Truncate(time.Second)}
	capture, err := sys.InCapture()
	if err != nil {
		return r, err
	}
	if capture {
		return r, withHint{errors.New("this is a capture kernel: what it publishes is of no use for the crashed one"),
			"record the kernel that may crash, while it runs"}
	}
	if r.Pair, err = sys.VMCSInfo(); errors.Is(err, sysfs.ErrNoPair) {
		if why := sys.NoVMX(); why != "" {
			return r, withHint{errors.Wrap(source.ErrNone, why), "VMCSINFO is about processors with VMX, Intel's: there is nothing to record here"}
		}
		return r, errors.Wrap(source.ErrNone, err.Error())
	} else if err != nil {
		return r, err
	}
	if r.Release, err = sys.Release(); err != nil {
		return r, err
	}
	r.BootID, err = sys.BootID()
	return r, err
}
