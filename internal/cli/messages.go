package cli

import (
	"fmt"
	"io"
	"math"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
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
	e.hint(hint.Of(err))
}

// helpHint is where to read on after wrong usage.
func (e *env) helpHint() string {
	if e.cmd.name == "" {
		return "vmcsnote help lists the commands, vmcsnote help COMMAND its flags"
	}
	return "vmcsnote help " + e.cmd.name + " tells how to use it"
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
