package cli

import (
	"slices"
	"strings"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"
)

// choices are the words that a flag or an argument takes.
type choices []candidate

// list returns the words for a sentence: "a, b or c".
func (cs choices) list() string {
	text := ""
	for i, c := range cs {
		switch i {
		case 0:
		case len(cs) - 1:
			text += " or "
		default:
			text += ", "
		}
		text += c.word
	}
	return text
}

// usage documents the words, in such a list.
func (cs choices) usage() string {
	all := slices.Clone(cs)
	for i, c := range all {
		if c.about != "" {
			all[i].word += " (" + c.about + ")"
		}
	}
	return all.list()
}

// find returns the place of a word, -1 if it is none of them.
func (cs choices) find(word string) int {
	return slices.IndexFunc(cs, func(c candidate) bool { return c.word == word })
}

// check returns an error for a word that is none of them.
func (cs choices) check(word string) error {
	if cs.find(word) < 0 {
		return errors.Errorf("expected %s", cs.list())
	}
	return nil
}

// A choiceFlag is a flag that takes one of a few words: it checks, documents
// and completes itself.
type choiceFlag[T ~string] struct {
	choices
	value *T
}

// addChoice adds such a flag. Its help is usage and the words.
func addChoice[T ~string](fs *pflag.FlagSet, value *T, name string, def T, cs choices, usage string) {
	*value = def
	fs.Var(choiceFlag[T]{cs, value}, name, usage+": "+cs.usage())
}

func (f choiceFlag[T]) String() string {
	if f.value == nil {
		return ""
	}
	return string(*f.value)
}

func (f choiceFlag[T]) Type() string { return "string" }

// Set takes any word: env.parse checks it once all flags have been parsed.
func (f choiceFlag[T]) Set(word string) error {
	*f.value = T(word)
	return nil
}

// valid returns an error if the value is none of the words.
func (f choiceFlag[T]) valid() error { return f.check(f.String()) }

// complete returns the words for completion.
func (cs choices) complete() []candidate { return cs }

// A chooser is a flag that knows what its value may be.
type chooser interface {
	complete() []candidate
	valid() error
}

// A commaList is the value of a flag that takes words with commas between them,
// and may be given several times. (pflag's own takes CSV, with quotes.)
type commaList []string

// String returns the words as they are given.
func (l *commaList) String() string { return strings.Join(*l, ",") }

// Set adds words.
func (l *commaList) Set(words string) error {
	*l = append(*l, strings.Split(words, ",")...)
	return nil
}

// Type names the kind of value.
func (l *commaList) Type() string { return "words" }
