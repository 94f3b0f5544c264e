package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
)

// devices are the memories of the running machine; memories has the dump's own,
// too.
var (
	devices  = choices{{string(source.Auto), "the others in turn"}, {string(source.DevMem), ""}, {string(source.InKCore), ""}}
	memories = append(choices{devices[0], {string(source.InDump), "the core itself; not a stream"}}, devices[1:]...)
)

// sourceFlags say where a note comes from.
type sourceFlags struct{ source.Request }

func (f *sourceFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.Blob, "blob", "", "take the note from `FILE`: a complete note, or the text alone")
	fs.StringVar(&f.Pair, "pair", "", "take it from physical memory at `\"ADDR SIZE\"`, both hexadecimal")
	fs.StringVar(&f.Record, "record", "", "take it from `FILE`, a record of the running kernel")
	fs.BoolVar(&f.Search, "search", false, "look for it in the core's own memory; not in a stream")
	addChoice(fs, &f.Memory, "memory", source.Auto, memories, "read the pair's memory from `WHERE`")
	fs.StringVar(&f.Name, "name", elfnote.VMCSInfo, "`NAME` of the note")
	fs.Uint32Var(&f.Type, "type", 0, "n_type of the note, a `NUMBER`")
	addRoot(fs, &f.Root, "")
}

// addRoot adds --root; with says what it goes with.
func addRoot(fs *pflag.FlagSet, root *string, with string) {
	fs.StringVar(root, "root", "/", with+"look for /sys, /proc, /dev and /etc below `DIR`")
}

// check refuses what contradicts itself, before any file is touched.
func (f *sourceFlags) check() error {
	var given []string
	for _, s := range []struct {
		flag string
		set  bool
	}{{"--blob", f.Blob != ""}, {"--pair", f.Pair != ""}, {"--record", f.Record != ""}, {"--search", f.Search}} {
		if s.set {
			given = append(given, s.flag)
		}
	}
	switch {
	case len(given) > 1:
		return usagef("%s: one source at a time", strings.Join(given, ", "))
	case f.Name == "" || len(f.Name) > 15:
		return usagef("--name: makedumpfile reads names of 1 to 15 bytes, not %d", len(f.Name))
	case f.Name != elfnote.VMCSInfo && (len(given) == 0 || f.Record != ""):
		return usagef("--name %s needs --blob, --pair or --search", f.Name)
	}
	return nil
}

// finder returns what finds the note for a core, or for none.
func (e *env) finder(r *source.Request, c vmcore.Core, whole bool) *source.Finder {
	return &source.Finder{
		Request: r, Core: c, Whole: whole, Tell: e.Notice,
		Progress: bytesOf(e.Progress("searching the dump's memory")),
	}
}
