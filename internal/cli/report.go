package cli

import (
	"context"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/report"
)

func reportCommand() command {
	return command{
		name:  "report",
		args:  "VMCORE...",
		short: "write a page about a host's crash and its guests, for a browser",
		long: `Writes one HTML page about the crash: the host, its kernel's last words, and the
virtual machines with what they were doing, their memory, registers and
backtraces; the notes in the dump, and what verify finds. The page needs no
network and no script, and can be printed. -o must be given.

Whoever has the page can read what is in it: parts of the host's and the guests'
logs, command lines, registers. Only its owner may read the file.

A dump that makedumpfile --split wrote is given by all its pieces.`,
		setup: func(fs *pflag.FlagSet) runner {
			var f guestsFlags
			out := fs.StringP("output", "o", "", "write the page to `OUT`, or to standard output (-)")
			force := fs.Bool("force", false, "replace OUT if it exists")
			f.add(fs)
			return func(ctx context.Context, e *env, args []string) error {
				if *out == "" {
					return usagef("-o OUT is required")
				}
				if err := notOver(*out, args); err != nil {
					return err
				}
				paths, err := dumpArgs(args)
				if err != nil {
					return err
				}
				p, err := f.page(ctx, e, paths)
				if err != nil {
					return named(dumpName(paths), err)
				}
				return e.writePage(p, *out, *force)
			}
		},
	}
}

// page gathers what the page tells of a dump.
func (f *guestsFlags) page(ctx context.Context, e *env, paths []string) (*report.Page, error) {
	c, err := e.openDump(ctx, paths, f.form())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p := guestlist.NewPage(c.Core, dumpName(paths))
	p.Program = "vmcsnote " + version
	h, err := f.find(ctx, e, c.Core)
	var none noVMCS
	if errors.As(err, &none) {
		p.NoMachines = guestlist.NoVMCSText(none.found) + "; no note tells what one looks like"
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if err := findRegisters(ctx, e, h); err != nil {
		return nil, err
	}
	h.Machines = outermost(h.Machines)
	return p, h.AddMachines(ctx, p)
}

// writePage writes the page to a file that appears whole, or to standard
// output.
func (e *env) writePage(p *report.Page, out string, force bool) error {
	if out == "-" {
		return report.Write(e.Stdout, p)
	}
	f, err := atomicfile.Create(out, atomicfile.Options{Mode: 0o600, Overwrite: force})
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := report.Write(f, p); err != nil {
		return err
	}
	return f.Finish()
}
