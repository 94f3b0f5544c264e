package cli

import (
	"strings"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"
)

// A choice is one of the words that a flag or an argument takes.
type choice struct{ word, about string }

type choices []choice

func (cs choices) words() (all []string) {
	for _, c := range cs {
		all = append(all, c.word)
	}
	return all
}

// list is the words as a sentence has them: "a, b or c".
func (cs choices) list() string {
	words := cs.words()
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// usage documents the words.
func (cs choices) usage() string {
	var all []string
	for _, c := range cs {
		if c.about != "" {
			c.word += " (" + c.about + ")"
		}
		all = append(all, c.word)
	}
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

// about says what a word means.
func (cs choices) about(word string) string {
	for _, c := range cs {
		if c.word == word {
			return c.about
		}
	}
	return ""
}

// check returns an error for a word that is none of them.
func (cs choices) check(word string) error {
	for _, c := range cs {
		if c.word == word {
			return nil
		}
	}
	return errors.Errorf("expected %s", cs.list())
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

// Set takes any word: the other flags and the arguments are parsed, too, before
// an error is printed. See env.parse.
func (f choiceFlag[T]) Set(word string) error {
	*f.value = T(word)
	return nil
}

// valid returns an error if the value is none of the words.
func (f choiceFlag[T]) valid() error { return f.check(f.String()) }

// complete returns the words for completion.
func (cs choices) complete() (all []candidate) {
	for _, c := range cs {
		all = append(all, candidate(c))
	}
	return all
}

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
