// Package message has every message for a person that is no result of a
// command, and puts numbers and things into words.
//
// Results go to standard output, all else to standard error, by
// [Printer.Say]: lower case, no full stop; "vmcsnote: error: …", then
// "vmcsnote: hint: …" with the cure, if one is known. What a terminal would
// obey is escaped: in all messages, in names out of a dump everywhere, and in
// everything if standard output is a terminal.
package message

import (
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// A Printer prints what a command has to tell.
type Printer struct {
	Stdout, Stderr io.Writer
	// Choose returns the line of a cure that is for the command, or ""; nil
	// takes each cure as it is.
	Choose func(cure string) string

	doing string // what the progress in the last line is of; "" if there is none
}

// MaxWarnings is how many warnings about a note people are shown.
const MaxWarnings = 3

// Say prints a message that is no result.
func (p *Printer) Say(format string, args ...any) {
	if p.doing != "" {
		fmt.Fprintln(p.Stderr)
		p.doing = ""
	}
	io.WriteString(p.Stderr, "vmcsnote: "+visible.Text(fmt.Sprintf(format, args...), "")+"\n")
}

// Hint tells a person the cure.
func (p *Printer) Hint(cure string) {
	if p.Choose != nil && cure != "" {
		cure = p.Choose(cure)
	}
	if cure != "" {
		p.Say("hint: %s", cure)
	}
}

// Failure prints an error and the cure, if one is known.
func (p *Printer) Failure(err error) {
	p.Say("error: %v", err)
	p.Hint(hint.Of(err))
}

// Size prints a number of bytes for people.
func Size(n int64) string {
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

// Recorded tells what was kept.
func (p *Printer) Recorded(path string, s source.Source, r record.Record) {
	switch {
	case r.Layout != "":
		p.Say("%s: VMCSINFO recorded, %s, of kernel %s, from %s", path, Size(int64(len(s.Note.Desc))), Name(r.Release), s.File)
	case len(r.Note) > 0:
		p.Say("%s: VMCSINFO recorded, %s, of kernel %s, at %s", path, Size(int64(len(s.Note.Desc))), Name(r.Release), readText(s))
	default:
		p.Say("%s: the pair %s recorded, of kernel %s", path, pairText(r.Pair), Name(r.Release))
	}
}

// Name prints a name out of a dump.
func Name(s string) string { return visible.Name(s) }

// Progress returns a function that shows how far a long copy is, or nil if
// standard error is not a terminal.
func (p *Printer) Progress(what string) func(done, total int64) {
	f, ok := p.Stderr.(*os.File)
	if !ok || !IsTerminal(f) {
		return nil
	}
	what = visible.Text(what, "")
	last := int64(-1)
	return func(done, total int64) {
		if pct := done * 100 / max(total, 1); pct != last && total > 64<<20 {
			last = pct
			p.doing = what
			fmt.Fprintf(f, "\rvmcsnote: %s %3d %%", what, pct)
		}
	}
}

// ProgressDone ends the progress of what was done: tables and new notes, which
// are not counted, have been written, too.
func (p *Printer) ProgressDone() {
	if p.doing != "" {
		fmt.Fprintf(p.Stderr, "\rvmcsnote: %s 100 %%", p.doing)
	}
}

// ProgressOver ends the progress where results follow on standard output.
func (p *Printer) ProgressOver() {
	if p.doing != "" {
		p.ProgressDone()
		fmt.Fprintln(p.Stderr)
		p.doing = ""
	}
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Columns returns the width of the terminal that standard output is, or 0.
func (p *Printer) Columns() int {
	if _, ok := p.Stdout.(*visible.Screen); !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// Plural prints a number of things.
//
//go:noinline
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Faults warns of faults that a dump's readers cannot handle, as far as they
// show without reading all of it.
func (p *Printer) Faults(c vmcore.Core) {
	for _, f := range vmcore.VerifyHead(c) {
		if !f.Remark {
			p.Say("warning: %s: %s", f.Text, f.Readers)
		}
	}
}

func pairText(p sysfs.Pair) string { return fmt.Sprintf("%q", p.String()) }

// Hex prints a number as addresses are printed.
//
//go:noinline
func Hex(v uint64) string { return fmt.Sprintf("%#x", v) }
