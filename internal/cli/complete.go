package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/visible"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// completeWord is the command by which the completion scripts ask what may come
// next. It is not meant for people.
const completeWord = "__complete"

// What may come next besides the candidates.
const (
	onlyWords   = "words"
	files       = "files"
	directories = "directories"
)

// A candidate is a word that may come next, and what it means.
type candidate struct{ word, about string }

// completeLine prints what may come next on a command line. Its arguments are
// the shell's name and the words after vmcsnote, the last of which is to be
// completed; for bash, the line in one piece. The first line of output is
// words, files or directories, the others have a candidate each and, after a
// tab, what it is.
func completeLine(_ context.Context, e *env, args []string) error {
	if len(args) == 0 {
		return usagef("%s: SHELL is missing", completeWord)
	}
	shell, words := args[0], args[1:]
	if shell == "bash" && len(words) > 0 {
		words = shellWords(words[0])
		words = words[min(1, len(words)):]
	}
	kind, all := onlyWords, []candidate(nil)
	if len(words) > 0 {
		kind, all = candidates(words, shell == "bash")
	}
	var b strings.Builder
	b.WriteString(kind + "\n")
	for _, c := range all {
		if !strings.ContainsFunc(c.word, unicode.IsControl) {
			fmt.Fprintf(&b, "%s\t%s\n", c.word, c.about)
		}
	}
	_, err := fmt.Fprint(e.Stdout, b.String())
	return err
}

// candidates returns what the last of words may become. If inPart is true, the
// candidates for --flag=value are the values alone.
func candidates(words []string, inPart bool) (kind string, all []candidate) {
	last := len(words) - 1
	cur := words[last]
	if last == 0 {
		for _, c := range commands() {
			all = append(all, candidate{c.name, c.short})
		}
		return onlyWords, startingWith(all, "", cur)
	}
	c, ok := find(words[0])
	if !ok {
		return onlyWords, nil
	}
	fs, _ := c.flags()
	p := passed(fs, words[1:last])
	if p.flag != nil {
		kind, all = valuesOf(p.flag, cur, p.args)
		return kind, startingWith(all, "", cur)
	}
	if name, value, ok := strings.Cut(cur, "="); ok && strings.HasPrefix(name, "--") && !p.over {
		f := fs.Lookup(name[2:])
		if f == nil {
			return onlyWords, nil
		}
		front := name + "="
		if inPart {
			front = ""
		}
		kind, all = valuesOf(f, value, p.args)
		return kind, startingWith(all, front, value)
	}
	if strings.HasPrefix(cur, "-") && cur != "-" && !p.over {
		fs.VisitAll(func(f *pflag.Flag) {
			_, usage := pflag.UnquoteUsage(f)
			all = append(all, candidate{"--" + f.Name, usage})
			if f.Shorthand != "" {
				all = append(all, candidate{"-" + f.Shorthand, usage})
			}
		})
		return onlyWords, startingWith(all, "", cur)
	}
	kind, all = argumentsOf(c, p)
	return kind, startingWith(all, "", cur)
}

// startingWith returns the candidates that begin with prefix, with front before
// each.
func startingWith(all []candidate, front, prefix string) (left []candidate) {
	for _, c := range all {
		if strings.HasPrefix(c.word, prefix) {
			left = append(left, candidate{front + c.word, c.about})
		}
	}
	return left
}

// A line is the part of the command line before the word to complete.
type line struct {
	args  []string    // those that are no flags
	given []string    // names of the flags
	flag  *pflag.Flag // whose value comes next, or nil
	over  bool        // -- has ended the flags
}

// passed parses the words after the command.
func passed(fs *pflag.FlagSet, words []string) (p line) {
	for _, w := range words {
		switch {
		case p.flag != nil:
			p.flag = nil
		case p.over || !strings.HasPrefix(w, "-") || w == "-":
			p.args = append(p.args, w)
		case w == "--":
			p.over = true
		default:
			name, _, whole := strings.Cut(strings.TrimPrefix(w, "--"), "=")
			f := fs.Lookup(name)
			if !strings.HasPrefix(w, "--") {
				f = fs.ShorthandLookup(w[1:2])
				whole = len(w) > 2
			}
			if f == nil {
				continue
			}
			p.given = append(p.given, f.Name)
			if !whole && f.Value.Type() != "bool" {
				p.flag = f
			}
		}
	}
	return p
}

// valuesOf returns the values of a flag.
func valuesOf(f *pflag.Flag, cur string, args []string) (kind string, all []candidate) {
	if v, ok := f.Value.(chooser); ok {
		return onlyWords, v.complete()
	}
	switch f.Name {
	case "layout":
		return files, layoutWords()
	case "field":
		front := cur[:strings.LastIndexByte(cur, ',')+1]
		for _, n := range guestlist.FieldNames(nil) {
			all = append(all, candidate{word: front + n})
		}
		return onlyWords, all
	case "note", "name":
		return onlyWords, noteNames(args)
	case "guest":
		return onlyWords, guestNames(args)
	case "root", "dir":
		return directories, nil
	case "pair", "type", "jobs", "vcpu", "read":
		return onlyWords, nil
	}
	return files, nil
}

// argumentsOf returns the arguments of a command.
func argumentsOf(c command, p line) (kind string, all []candidate) {
	switch c.name {
	case "help":
		return onlyWords, wordList(names()...)
	case "completion":
		return onlyWords, shells.complete()
	case "version", "record":
		return onlyWords, nil
	case "layouts":
		if !slices.Contains(p.given, "submit") && !slices.Contains(p.given, "learn") {
			return onlyWords, layoutWords()
		}
	}
	return files, nil
}

func wordList(words ...string) (all []candidate) {
	for _, w := range words {
		all = append(all, candidate{word: w})
	}
	return all
}

func layoutWords() (all []candidate) {
	for _, l := range vmcs.Builtin() {
		all = append(all, candidate{l.Name, fmt.Sprintf("revision id %#x", l.RevisionID)})
	}
	return all
}

// noteNames returns the names of the notes in the dumps given already, or those
// that dumps usually have.
func noteNames(paths []string) []candidate {
	quiet := &env{Printer: &message.Printer{Stderr: io.Discard}, packed: true}
	all := inTime(func(ctx context.Context) (all []candidate) {
		for _, path := range paths {
			path = homePath(path)
			r, err := quiet.look(ctx, path)
			if err != nil {
				continue
			}
			for _, n := range r.Notes {
				if c := (candidate{n.Name, "in " + visible.Text(path, "")}); !slices.Contains(all, c) {
					all = append(all, c)
				}
			}
		}
		return all
	})
	if all == nil {
		return wordList(elfnote.VMCoreInfo, elfnote.VMCSInfo, qemucore.NoteName, "CORE", "QEMU", "ERASEINFO")
	}
	return all
}

// guestNames returns what --guest takes for the machines of the dump given
// already: number, name, pid and UUID of each. Names and UUIDs are their
// owners' choice, and go into a command line: only harmless ones are offered.
func guestNames(paths []string) []candidate {
	quiet := &env{Printer: &message.Printer{Stderr: io.Discard}, packed: true}
	return inTime(func(ctx context.Context) (all []candidate) {
		if len(paths) == 0 {
			return nil
		}
		for i, path := range paths {
			paths[i] = homePath(path)
		}
		c, err := quiet.openDump(ctx, paths, vmcore.OpenMemory)
		if err != nil {
			return nil
		}
		defer c.Close()
		h := guest.OpenHost(c.Core)
		if h.FindMachines(ctx, guest.MachineSearch{}) != nil {
			return nil
		}
		for m := range h.All() {
			all = append(all, candidate{m.ID(), visible.Text(m.Name, "")})
		}
		for m := range h.All() {
			about := "guest " + m.ID()
			for _, word := range []string{m.Name, strings.Trim(guestlist.CountText(m.PID), "-"), m.UUID} {
				if c := (candidate{word, about}); isPlain(word) && !slices.Contains(all, c) {
					all = append(all, c)
				}
			}
		}
		return all
	})
}

// isPlain reports whether a word means the same to every shell, and is no flag.
func isPlain(word string) bool {
	return word != "" && word[0] != '-' && !strings.ContainsFunc(word, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.+@", r)
	})
}

// homePath returns a path with ~/ expanded, as the shell will do.
func homePath(path string) string {
	if home, ok := strings.CutPrefix(path, "~/"); ok {
		return os.Getenv("HOME") + "/" + home
	}
	return path
}

// inTime returns what find returns, or nil if a dump takes too long to read.
func inTime(find func(context.Context) []candidate) []candidate {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	found := make(chan []candidate, 1)
	go func() { found <- find(ctx) }()
	select {
	case all := <-found:
		return all
	case <-ctx.Done():
		return nil
	}
}

// shellWords splits a line as a shell does, without expanding anything. The
// last word is the one that the line ends in, empty after a blank.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	in, quote := false, rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\\\"$`", r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, in = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	return append(words, word.String())
}
