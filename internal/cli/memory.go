package cli

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

// fromPair reads the memory that the pair leads to. Wherever it is read from,
// only a blob with the note in it counts: an address of another boot leads to
// other bytes. The note may end before the buffer does, and a filtered dump
// holds no page of zeros; what was read before such a page will do.
func (f *finder) fromPair(p sysfs.Pair, s source) (source, error) {
	var failed []error
	for _, m := range f.memories() {
		n, err := f.note(m.read(p))
		if err == nil {
			s.note = n
			s.where += ", read from " + m.name
			s.core = m.name == theCore
			return s, nil
		}
		if dev := (*physmem.Error)(nil); !errors.As(err, &dev) { // that names itself
			err = errors.Wrap(err, m.name)
		}
		failed = append(failed, err)
	}
	return source{}, noMemory{p, failed, f.whole}
}

// note takes the note out of a kernel's buffer, of which only the beginning may
// have been read: a complete note may end there, but of a text or of records
// only zero fill tells that they have ended. The buffer of the patches' version
// 2 holds the descriptor alone: records, and no count of them.
func (f *finder) note(b []byte, readErr error) (elfnote.Note, error) {
	if len(b) == 0 && readErr != nil {
		return elfnote.Note{}, readErr
	}
	n, err := elfnote.FromBlob(b, f.name, f.typ, f.order())
	if err != nil && f.name == elfnote.VMCSInfo {
		if l, err2 := vmcs.ParseNote(b); err2 == nil && l.Form == vmcs.FormRecords {
			n, err = elfnote.Note{Name: f.name, Type: f.typ, Desc: records(b)}, nil
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
	name string
	read func(sysfs.Pair) ([]byte, error)
}

// theCore is the name of the memory that is the core's own.
const theCore = "the core"

// memories lists where to read, in order. The core comes first: it works
// without any privilege, and holds the right kernel's memory or none.
func (f *finder) memories() []memory {
	var ms []memory
	want := func(s string) bool { return f.memory == s || f.memory == "auto" }
	if want("vmcore") && (f.whole || f.memory == "vmcore") {
		ms = append(ms, memory{theCore, func(p sysfs.Pair) ([]byte, error) {
			if !f.whole {
				return nil, errors.New("a stream's memory is not there yet when the note is needed")
			}
			b := make([]byte, p.Size)
			n, err := f.core.ReadPhys(b, p.Addr)
			return b[:n], err
		}})
	}
	if want("devmem") {
		ms = append(ms, device("/dev/mem", func() (physmem.Device, error) { return physmem.OpenDevMem(f.root) }))
	}
	if want("kcore") {
		ms = append(ms, device("/proc/kcore", func() (physmem.Device, error) { return physmem.OpenKCore(f.root) }))
	}
	return ms
}

func device(name string, open func() (physmem.Device, error)) memory {
	return memory{name, func(p sysfs.Pair) ([]byte, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		b := make([]byte, p.Size)
		n, err := r.ReadPhys(b, p.Addr)
		return b[:n], err
	}}
}

// noMemory: nowhere does the pair lead to a note.
type noMemory struct {
	pair   sysfs.Pair
	failed []error
	search bool // the core's memory can be searched
}

func (e noMemory) Error() string {
	s := make([]string, len(e.failed))
	for i, err := range e.failed {
		s[i] = err.Error()
	}
	return fmt.Sprintf("the pair %s leads to no note: %s", pairText(e.pair), strings.Join(s, "; "))
}

func (e noMemory) Unwrap() []error { return e.failed }

// Hint is the one place's cure where only one was asked for.
func (e noMemory) Hint() string {
	var dev *physmem.Error
	if len(e.failed) == 1 && errors.As(e.failed[0], &dev) {
		return deviceHint(dev)
	}
	if e.search {
		return "--search looks for the note in all of the core's memory, --blob takes it from a file"
	}
	return "--blob takes the note from a file\n"
}
