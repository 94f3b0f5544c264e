package source

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/sysfs"
	"vmcsnote/vmcs"
)

// A Place is where to read the memory that a pair leads to.
type Place string

// The places. Auto means the others in turn.
const (
	Auto    Place = "auto"
	InDump  Place = "vmcore"
	DevMem  Place = "devmem"
	InKCore Place = "kcore"
)

// FromPair reads the note at the pair, wherever that can be read.
func (f *Finder) FromPair(p sysfs.Pair) (Source, error) {
	return f.fromPair(p, Source{Kind: Pair})
}

// fromPair completes s with the note at the pair. Wherever it is read from,
// only a blob with the note in it counts: an address of another boot leads to
// other bytes. The note may end before the buffer does, and a filtered dump
// holds no page of zeros; what was read before such a page will do.
func (f *Finder) fromPair(p sysfs.Pair, s Source) (Source, error) {
	var failed []PlaceError
	for _, m := range f.memories() {
		n, err := f.note(m.read(p))
		if err == nil {
			s.Note, s.Pair, s.Read = n, p, m.place
			return s, nil
		}
		failed = append(failed, PlaceError{m.place, err})
	}
	return Source{}, &PairError{p, failed}
}

// note takes the note out of a kernel's buffer, of which only the beginning may
// have been read: a complete note may end there, but only zero fill tells that
// a text or records have ended. The buffer of the patches' version 2 holds the
// descriptor alone: records, and no count of them.
func (f *Finder) note(b []byte, readErr error) (elfnote.Note, error) {
	if len(b) == 0 && readErr != nil {
		return elfnote.Note{}, readErr
	}
	n, err := elfnote.FromBlob(b, f.Name, f.Type, f.order())
	if err != nil && f.Name == elfnote.VMCSInfo {
		if l, err2 := vmcs.ParseNote(b); err2 == nil && l.Form == vmcs.FormRecords {
			n, err = elfnote.Note{Name: f.Name, Type: f.Type, Desc: records(b)}, nil
		}
	}
	if readErr != nil && (err != nil || !bytes.HasPrefix(b, n.Encode(f.order())) && b[len(b)-1] != 0) {
		return elfnote.Note{}, readErr
	}
	return n, err
}

// records cuts the zero fill off a version 2 buffer: a revision identifier of 4
// bytes, and records of 12, the last of which may end with zeros.
func records(b []byte) []byte {
	used := len(bytes.TrimRight(b, "\x00"))
	return b[:min(4+(max(used-4, 0)+11)/12*12, len(b))]
}

// A memory is one place to read physical memory from.
type memory struct {
	place Place
	read  func(sysfs.Pair) ([]byte, error)
}

// memories lists where to read, in order. The dump comes first: it needs no
// privilege, and holds the right kernel's memory or none.
func (f *Finder) memories() []memory {
	var ms []memory
	want := func(p Place) bool { return f.Memory == p || f.Memory == Auto }
	if want(InDump) && (f.Whole || f.Memory == InDump) {
		ms = append(ms, memory{InDump, func(p sysfs.Pair) ([]byte, error) {
			if !f.Whole {
				return nil, ErrStream
			}
			return readPair(f.Core, p)
		}})
	}
	if want(DevMem) {
		ms = append(ms, device(DevMem, func() (physmem.Device, error) { return physmem.OpenDevMem(f.Root) }))
	}
	if want(InKCore) {
		ms = append(ms, device(InKCore, func() (physmem.Device, error) { return physmem.OpenKCore(f.Root) }))
	}
	return ms
}

func device(place Place, open func() (physmem.Device, error)) memory {
	return memory{place, func(p sysfs.Pair) ([]byte, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readPair(r, p)
	}}
}

// readPair reads the memory that a pair leads to, as much of it as there is.
func readPair(r physmem.Reader, p sysfs.Pair) ([]byte, error) {
	b := make([]byte, p.Size)
	n, err := r.ReadPhys(b, p.Addr)
	return b[:n], err
}

// Path returns the file that the place is, or "the core".
func (p Place) Path() string {
	switch p {
	case DevMem:
		return "/dev/mem"
	case InKCore:
		return "/proc/kcore"
	}
	return "the core"
}

// A PairError means that no place has a note at a pair.
type PairError struct {
	Pair   sysfs.Pair
	Failed []PlaceError // in the order of the places
}

// Error names the pair, and tells what each place has instead.
func (e *PairError) Error() string {
	s := make([]string, len(e.Failed))
	for i, err := range e.Failed {
		s[i] = err.Error()
	}
	return fmt.Sprintf("no note at %q: %s", e.Pair.String(), strings.Join(s, "; "))
}

// Unwrap returns an error for each place.
func (e *PairError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, err := range e.Failed {
		errs[i] = err
	}
	return errs
}

// A PlaceError is why a place has no note.
type PlaceError struct {
	Place Place
	Err   error
}

// Error names the place, unless the error does.
func (e PlaceError) Error() string {
	if dev := (*physmem.Error)(nil); errors.As(e.Err, &dev) { // that names itself
		return e.Err.Error()
	}
	return e.Place.Path() + ": " + e.Err.Error()
}

// Unwrap returns the place's error.
func (e PlaceError) Unwrap() error { return e.Err }
