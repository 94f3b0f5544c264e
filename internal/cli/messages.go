package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/internal/unpack"
	"vmcsnote/internal/visible"
	"vmcsnote/physmem"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// The rules for messages: results go to standard output, all else to standard
// error, through say; lower case, no full stop; "vmcsnote: error: …", then
// "vmcsnote: hint: …" with the cure, if one is known. What a terminal would obey
// is escaped: in all messages, in names out of a dump everywhere, and in
// everything if standard output is a terminal.

// say prints a message that is no result.
func (e *env) say(format string, args ...any) {
	if e.doing != "" {
		fmt.Fprintln(e.stderr)
		e.doing = ""
	}
	io.WriteString(e.stderr, "vmcsnote: "+visible.Text(fmt.Sprintf(format, args...), "")+"\n")
}

// fail tells a person what went wrong, and the cure.
func (e *env) fail(err error) {
	if errors.Is(err, errFindings) || errors.As(err, new(errSome)) {
		return // they have been printed
	}
	if errors.Is(err, errNoCommand) {
		io.WriteString(e.stderr, overview())
		return
	}
	e.failure(err)
	if errors.As(err, new(errUsage)) {
		e.hint(e.helpHint())
	}
}

// failure prints an error and the cure, if one is known.
func (e *env) failure(err error) {
	e.say("error: %v", err)
	e.hint(hint(err))
}

// helpHint is where to read on after wrong usage.
func (e *env) helpHint() string {
	if e.cmd.name == "" {
		return "vmcsnote help lists the commands, vmcsnote help COMMAND its flags"
	}
	return "vmcsnote help " + e.cmd.name + " tells how to use it"
}

// A hinted error knows its cure.
type hinted interface{ Hint() string }

// withHint adds the cure to an error.
type withHint struct {
	error
	cure string
}

func (e withHint) Hint() string  { return e.cure }
func (e withHint) Unwrap() error { return e.error }

// publishIt is the cure for a running kernel that publishes nothing.
const publishIt = "install a file of this processor with vmcsnote layouts --install, or modprobe vmcsinfo, of the package vmcsinfo-dkms"

// hint returns the cure for an error, or "": see hints.go.
func hint(err error) string {
	var own hinted
	var dev *physmem.Error
	var kind vmcore.NotCoreError
	var missing unpack.NoProgram
	var left *guest.LeftOutError
	switch {
	case errors.As(err, &own) && own.Hint() != "":
		return own.Hint()
	case sourceHint(err) != "":
		return sourceHint(err)
	case errors.As(err, &dev) && deviceHint(dev) != "":
		return deviceHint(dev)
	case errors.Is(err, vmcore.ErrOnePass):
		return "save the stream to a file, and give that"
	case errors.Is(err, source.ErrNone):
		return "no released kernel publishes VMCSINFO; give --blob, --pair or --record\n" +
			"give --layout with a file of a host with the same processor and microcode\n" + publishIt
	case errors.Is(err, elfnote.ErrBlob):
		return "a blob, and the memory that a pair leads to, is one complete VMCSINFO note, or the text that begins with REVISION_ID="
	case errors.As(err, &kind) && kindHints[kind.Kind] != "":
		return kindHints[kind.Kind]
	case errors.Is(err, vmcore.ErrNoPTNote):
		return fewNotes
	case errors.As(err, &missing):
		return "install the package " + missing.Package()
	case errors.Is(err, vmcore.ErrNotCore):
		return "vmcsnote takes what the kernel (/proc/vmcore), makedumpfile and QEMU's dump-guest-memory write, and raw memory with --raw\n" +
			"vmcsnote takes what the kernel (/proc/vmcore), makedumpfile and QEMU's dump-guest-memory write"
	case errors.Is(err, vmcore.ErrBusy):
		return "wait until it has ended"
	case errors.Is(err, vmcore.ErrExists):
		return "--force replaces it\nname a file that is not there yet"
	case errors.Is(err, vmcore.ErrBlockDevice):
		return "--force writes to it"
	case errors.Is(err, inputfile.ErrFIFO):
		return "write what comes out of it to a file first"
	case errors.Is(err, vmcore.ErrSameFile):
		return "leave -o out to change the core in place"
	case errors.Is(err, vmcore.ErrReadOnly):
		return "run as root, or as its owner after chmod u+w, or write a copy with -o"
	case errors.Is(err, vmcore.ErrNoPlace):
		return "write a copy with -o, on a file system that has the room"
	case errors.As(err, &left):
		return leftOutHints[left.Mark]
	case errors.Is(err, vmcore.ErrTruncated):
		return "the dump is not complete: find out why its writer ended"
	case errors.Is(err, vmcore.ErrChanged):
		return "wait until whoever writes the dump has ended (makedumpfile, cp), then try again"
	case errors.Is(err, context.Canceled):
		return "stopped by a signal: the core is as it was; a copy written to a pipe is not whole"
	}
	return fileHint(err)
}

// leftOutHints are the cures for a dump that lacks KVM's structures.
var leftOutHints = map[guest.SlabMark]string{
	guest.SlabFlag: "dump with a makedumpfile that knows this kernel, or without 8 in the dump level (-d 23)",
	guest.SlabType: "dump with makedumpfile 1.7.6 or later, or without 8 in the dump level (-d 23): older ones take kernel memory of Linux 6.10 and later for user memory",
	guest.SlabInfo: "dump with a makedumpfile later than 1.7.8, or without 8 in the dump level (-d 23): older ones take kernel memory of Linux 7.1 and later for user memory",
}

// size prints a number of bytes for people.
func size(n int64) string {
	if n < 10_000 {
		return fmt.Sprintf("%d bytes", n)
	}
	x, unit := float64(n)/(1<<10), "KiB"
	for _, larger := range [...]string{"MiB", "GiB", "TiB"} {
		if x < 1<<10 {
			break
		}
		x, unit = x/(1<<10), larger
	}
	if x == math.Trunc(x) {
		return fmt.Sprintf("%.0f %s", x, unit)
	}
	return fmt.Sprintf("%.1f %s", x, unit)
}

// changed tells how a core was changed.
func (e *env) changed(r changeReport) {
	where := r.File
	if r.Output != "" {
		where = r.Output
	}
	if where == "-" {
		where = "standard output"
	}
	if !r.Changed {
		e.say("%s: %s", where, r.why)
		return
	}
	how := placements.about(string(r.Placement))
	if r.Growth > 0 && r.Placement != vmcore.Clone && r.Placement != vmcore.Copy { // remove undoes those
		how += ", which stays " + size(r.Growth) + " larger"
	}
	e.say("%s: %s (%s: %s)", where, r.why, r.Placement, how)
}

// recorded tells what was kept.
func (e *env) recorded(path string, s source.Source, r record.Record) {
	switch {
	case r.Layout != "":
		e.say("%s: VMCSINFO recorded, %s, of kernel %s, from %s", path, size(int64(len(s.Note.Desc))), name(r.Release), s.File)
	case len(r.Note) > 0:
		e.say("%s: VMCSINFO recorded, %s, of kernel %s, at %s", path, size(int64(len(s.Note.Desc))), name(r.Release), readText(s))
	default:
		e.say("%s: the pair %s recorded, of kernel %s", path, pairText(r.Pair), name(r.Release))
	}
}

// name prints a name out of a dump.
func name(s string) string { return visible.Name(s) }

// progress returns a function that shows how far a long copy is, or nil where
// nobody watches.
func (e *env) progress(what string) func(done, total int64) {
	f, ok := e.stderr.(*os.File)
	if !ok || !isTerminal(f) {
		return nil
	}
	what = visible.Text(what, "")
	last := int64(-1)
	return func(done, total int64) {
		if pct := done * 100 / max(total, 1); pct != last && total > 64<<20 {
			last = pct
			e.doing = what
			fmt.Fprintf(f, "\rvmcsnote: %s %3d %%", what, pct)
		}
	}
}

// progressDone ends the progress of what was done: tables and new notes, which
// are not counted, have been written, too.
func (e *env) progressDone() {
	if e.doing != "" {
		fmt.Fprintf(e.stderr, "\rvmcsnote: %s 100 %%", e.doing)
	}
}

// progressOver ends the progress where results follow on standard output.
func (e *env) progressOver() {
	if e.doing != "" {
		e.progressDone()
		fmt.Fprintln(e.stderr)
		e.doing = ""
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// plural prints a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// faults warns of what a dump's readers will choke on, note or no note, as far
// as that can be told without reading all of it.
func (e *env) faults(c vmcore.Core) {
	for _, f := range vmcore.VerifyHead(c) {
		if !f.Remark {
			e.say("warning: %s: %s", f.Text, f.Readers)
		}
	}
}

func pairText(p sysfs.Pair) string { return fmt.Sprintf("%q", p.String()) }
