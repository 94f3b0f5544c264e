package cli

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// A hint is the cure for an error, in a few words. If the cure depends on the
// command it has a line for each; the first line that names no flag the command
// lacks is printed, and none if no line is left. An empty line at the end says
// that nothing need be printed.

// choose returns the line of a cure that is for this command, or "".
func (c command) choose(cure string) string {
	for line := range strings.SplitSeq(cure, "\n") {
		if c.fits(line) {
			return line
		}
	}
	unfit(c.name, cure)
	return ""
}

// unfit is called for a hint that is not printed, because it names flags that
// the command lacks. Tests replace it.
var unfit = func(command, hint string) {}

// namedFlags returns the flags in a hint, as --name or -n: words of their own,
// or after a bracket.
func namedFlags(hint string) (flags []string) {
	for w := range splitAny(hint, " \t\n(") {
		if i := strings.IndexAny(w, ",;:.)="); i >= 0 {
			w = w[:i]
		}
		name, long := strings.CutPrefix(w, "--")
		if !long {
			name, _ = strings.CutPrefix(w, "-")
		}
		switch {
		case name == w || name == "":
		case long && len(name) > 1 && strings.Trim(name, lower+"-") == "" && !strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-"),
			!long && len(name) == 1 && strings.Trim(strings.ToLower(name), lower) == "":
			flags = append(flags, w)
		}
	}
	return flags
}

// lower are the letters of commands and flags.
const lower = "abcdefghijklmnopqrstuvwxyz"

// otherCommand returns the command after "vmcsnote" in a hint, or "". The flags
// that follow are that command's.
func otherCommand(hint string) string {
	_, line, _ := strings.Cut(hint, "vmcsnote ")
	return line[:len(line)-len(strings.TrimLeft(line, lower))]
}

// fits reports whether c has all the flags of vmcsnote that a hint names. Flags
// after "vmcsnote COMMAND" are that command's, up to a comma or semicolon.
// Flags that no command has are another program's.
func (c command) fits(hint string) bool {
	for clause := range splitAny(hint, ",;") {
		of := c
		if other, ok := find(otherCommand(clause)); ok {
			of = other
		}
		for _, flag := range namedFlags(clause) {
			if !of.has(flag) && slices.ContainsFunc(commands(), func(c command) bool { return c.has(flag) }) {
				return false
			}
		}
	}
	return true
}

func splitAny(s, chars string) func(yield func(string) bool) {
	return strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(chars, r) })
}

// has reports whether the command has a flag, written as --name or -n.
func (c command) has(flag string) bool {
	if c.setup == nil {
		return false
	}
	fs, _ := c.flags()
	if name, long := strings.CutPrefix(flag, "--"); long {
		return fs.Lookup(name) != nil
	}
	return fs.ShorthandLookup(flag[1:]) != nil
}

// flagNames lists the flags of a set, as they are typed.
func flagNames(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return names
}
