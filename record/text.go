package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/sysfs"
)

const (
	magic         = "vmcsnote-record "
	version       = "1" // with a pair
	layoutVersion = "2" // with a file of layouts in its place

	noteLine = 57 // bytes of the note in a line: 76 characters, as in MIME
)

// errChecksum says that the record is not as it was written.
var errChecksum = errors.New("checksum does not match")

// Looks reports whether a file that begins with b is a record, of whatever
// version.
func Looks(b []byte) bool {
	return bytes.HasPrefix(b, []byte(magic))
}

// Encode returns the record as text. It checks nothing: Parse refuses the text
// of a Record beyond the limits, or with anything but one word in Release or
// BootID.
func (r Record) Encode() []byte {
	var b bytes.Buffer
	if r.Layout != "" {
		fmt.Fprintf(&b, "%s%s\nlayout: %s\n", magic, layoutVersion, r.Layout)
	} else {
		fmt.Fprintf(&b, "%s%s\npair: %v\n", magic, version, r.Pair)
	}
	fmt.Fprintf(&b, "release: %s\n", r.Release)
	fmt.Fprintf(&b, "boot-id: %s\n", r.BootID)
	fmt.Fprintf(&b, "time: %s\n", r.Time.UTC().Format(time.RFC3339))
	for rest := r.Note; len(rest) > 0; rest = rest[min(len(rest), noteLine):] {
		fmt.Fprintf(&b, "note: %s\n", base64.StdEncoding.EncodeToString(rest[:min(len(rest), noteLine)]))
	}
	b.WriteString(sumLine(b.Bytes()))
	return b.Bytes()
}

// sumLine is the last line of a record that begins with b.
func sumLine(b []byte) string {
	return fmt.Sprintf("sha256: %x\n", sha256.Sum256(b))
}

// Parse reads a whole record. It takes what Encode writes and nothing else.
func Parse(b []byte) (Record, error) {
	switch {
	case len(b) > MaxSize:
		return Record{}, errors.Errorf("record of %d bytes, expected at most %d", len(b), MaxSize)
	case !Looks(b):
		return Record{}, errors.Errorf("found %.32q at offset 0, expected %q", b, magic+version)
	}
	first, rest, _ := strings.Cut(string(b), "\n")
	if found := first[len(magic):]; found != version && found != layoutVersion {
		return Record{}, errors.Errorf("record of version %.32q, expected %s or %s", found, version, layoutVersion)
	}
	body := b[:max(0, len(b)-len(sumLine(nil)))]
	if sum := b[len(body):]; string(sum) != sumLine(body) {
		return Record{}, errors.Wrapf(errChecksum, "found %.80q at offset %d, expected %q", sum, len(body), sumLine(body))
	}
	var r Record
	n := 1
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		n++
		if err := r.set(key, value); err != nil {
			return Record{}, errors.Wrapf(err, "record's line %d, %.32q", n, key)
		}
	}
	// What is missing, out of order, twice there or written in another way
	// shows here.
	if !bytes.Equal(r.Encode(), b) || r.Layout != "" && len(r.Note) == 0 {
		return Record{}, errors.New("record is not in the form that vmcsnote writes")
	}
	return r, nil
}

// set takes in one line.
func (r *Record) set(key, value string) (err error) {
	switch key {
	case "pair":
		r.Pair, err = sysfs.ParsePair(value)
	case "layout":
		r.Layout, err = parseWord(value)
	case "release":
		r.Release, err = parseWord(value)
	case "boot-id":
		r.BootID, err = parseWord(value)
	case "time":
		r.Time, err = time.Parse(time.RFC3339, value)
	case "note":
		var part []byte
		part, err = base64.StdEncoding.DecodeString(value)
		r.Note = append(r.Note, part...)
		if len(r.Note) > maxNote {
			err = errors.Errorf("more than %d bytes", maxNote)
		}
	case "sha256":
	default:
		err = errors.New("unknown key")
	}
	return err
}

// parseWord takes one word of printable ASCII.
func parseWord(s string) (string, error) {
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", errors.Errorf("found %.64q, expected one word", s)
	}
	return s, nil
}
