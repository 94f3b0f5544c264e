package coretext

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// line is one line of the text, continuations included.
type line struct {
	number int // of its first line in the text, from 1
	verb   string
	args   []arg
	inner  []*line // the note and data lines after a notes line
	err    error   // the first one
}

// fail keeps an error, unless the line has one already.
func (l *line) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

type arg struct {
	key, value string
}

// repeatable are the keys that take bytes.
var repeatable = []string{"desc", "bytes"}

func parse(text string) ([]*line, error) {
	var lines []*line
	var last *line
	for i, s := range strings.Split(text, "\n") {
		words, err := split(s)
		if err != nil {
			return nil, errors.Wrapf(err, "line %d", i+1)
		}
		if len(words) == 0 {
			continue
		}
		if s[0] != ' ' && s[0] != '\t' {
			last = &line{number: i + 1, verb: words[0]}
			words = words[1:]
			if n := len(lines); n > 0 && lines[n-1].verb == "notes" && (last.verb == "note" || last.verb == "data") {
				lines[n-1].inner = append(lines[n-1].inner, last)
			} else {
				lines = append(lines, last)
			}
		}
		if last == nil {
			return nil, errors.Errorf("line %d: expected a verb at its beginning", i+1)
		}
		for _, word := range words {
			key, value, _ := strings.Cut(word, "=")
			if _, twice := last.get(key); twice && !slices.Contains(repeatable, key) {
				return nil, last.wrap(errors.Errorf("%s given twice", key))
			}
			last.args = append(last.args, arg{key, value})
		}
	}
	return lines, nil
}

// wrap adds to an error which line it is about.
func (l *line) wrap(err error) error {
	return errors.Wrapf(err, "line %d: %s", l.number, l.verb)
}

// split cuts a line into its words. Blanks and # inside a quoted string do not
// count.
func split(s string) ([]string, error) {
	var words []string
	for {
		s = strings.TrimLeft(s, " \t\r")
		if s == "" || s[0] == '#' {
			return words, nil
		}
		end := strings.IndexAny(s, " \t\r\"")
		if end < 0 {
			end = len(s)
		} else if s[end] == '"' {
			quoted, err := strconv.QuotedPrefix(s[end:])
			if err != nil {
				return nil, errors.Errorf("%s: expected a quoted string", s[end:])
			}
			end += len(quoted)
		}
		words = append(words, s[:end])
		s = s[end:]
	}
}

// get returns the first value of a key; a quoted one without its quotes.
func (l *line) get(key string) (string, bool) {
	for _, a := range l.args {
		if a.key == key {
			if text, err := strconv.Unquote(a.value); err == nil {
				return text, true
			}
			return a.value, true
		}
	}
	return "", false
}

// num returns a key's number, or otherwise if the line has no such key.
func (l *line) num(key string, otherwise uint64) uint64 {
	value, ok := l.get(key)
	if !ok {
		return otherwise
	}
	n, err := parseNumber(value)
	l.fail(errors.Wrap(err, key))
	return n
}

// parseNumber reads a number; a negative one is returned as its two's
// complement.
func parseNumber(s string) (uint64, error) {
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return uint64(n), nil
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, errors.Errorf("found %q, expected a number", s)
	}
	return n, nil
}

// bytes returns the bytes of all values of a key: nil if the line has no such
// key.
func (l *line) bytes(key string, order byteOrder) (all []byte) {
	for _, a := range l.args {
		if a.key != key {
			continue
		}
		var err error
		if all, err = appendBytes(all, a.value, order); err == nil && len(all) > maxSize {
			err = errors.Errorf("more than %d bytes", maxSize)
		}
		if err != nil {
			l.fail(errors.Wrap(err, key))
			return nil
		}
	}
	return all
}

// appendBytes appends what one value stands for.
func appendBytes(b []byte, value string, order byteOrder) ([]byte, error) {
	if text, err := strconv.Unquote(value); err == nil {
		return append(b, text...), nil
	}
	kind, rest, _ := strings.Cut(value, ":")
	if kind == "hex" {
		p, err := hex.DecodeString(rest)
		return append(b, p...), errors.WithStack(err)
	}
	size, fill, _ := strings.Cut(rest, ":")
	n, err := parseNumber(size)
	if err != nil {
		return nil, err
	}
	var c uint64
	switch kind {
	case "u32":
		if n > 1<<32-1 {
			return nil, errors.Errorf("%s: does not fit in 32 bits", value)
		}
		return order.AppendUint32(b, uint32(n)), nil
	case "u64":
		return order.AppendUint64(b, n), nil
	case "zero":
	case "fill":
		if c, err = parseNumber(fill); err != nil {
			return nil, err
		}
	default:
		return nil, errors.Errorf("found %q, expected bytes", value)
	}
	if n > maxSize || c > 0xff {
		return nil, errors.Errorf("%s: expected at most %d times a byte", value, maxSize)
	}
	return append(b, slices.Repeat([]byte{byte(c)}, int(n))...), nil
}
