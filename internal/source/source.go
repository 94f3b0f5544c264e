// Package source finds the note that a dump is to get: in a file, by a pair of
// address and size in somebody's memory, in a record, or by a search of the
// dump's own memory.
package source

import (
	"context"
	"encoding/binary"
	"io/fs"
	"path/filepath"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/inputfile"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// DefaultRecord is the file that keeps the record, below the root.
const DefaultRecord = "/etc/vmcsnote/record"

// vmcsinfo is the file that has the running kernel's pair.
const vmcsinfo = "/sys/kernel/vmcsinfo"

// A Request says which note to look for, and where. At most one of Blob, Pair,
// Record and Search is set; without any, Find tries what there is.
type Request struct {
	Blob   string // a file: a complete note, or the text alone
	Pair   string // address and size, as /sys/kernel/vmcsinfo has them
	Record string // a file
	Search bool   // the dump's own memory

	Memory Place  // where to read a pair's memory
	Name   string // of the note
	Type   uint32 // n_type
	Root   string // where /sys, /proc, /dev and /etc are
}

// Given reports whether a source was asked for.
func (r *Request) Given() bool {
	return r.Blob != "" || r.Pair != "" || r.Record != "" || r.Search
}

// OfMachine is the request for the VMCSINFO of the machine that we run on.
func OfMachine(root string) *Request {
	return &Request{Name: elfnote.VMCSInfo, Memory: Auto, Root: root}
}

// A Kind is a kind of source; --json prints it.
type Kind string

// The kinds of sources.
const (
	Blob    Kind = "blob"
	Pair    Kind = "pair"
	Record  Kind = "record"
	Sysfs   Kind = "sysfs"
	Search  Kind = "search"
	Layouts Kind = "layouts"
)

// A Source is a note, and where it was found.
type Source struct {
	Kind Kind
	Note elfnote.Note
	// File is the blob, the record or the file with the pair.
	File string
	// Layout is the file of layouts that the note is from, below the root.
	Layout string
	// Pair led to the note; for a search it leads there.
	Pair sysfs.Pair
	// Read is the memory that it was read from; "" for that of a file.
	Read Place
	// Record is the one that led to the note, or has it.
	Record record.Record
	// OfKernel is the dump's release, if the record is of another one.
	OfKernel string
	// Stale: the dump's own memory has no note at the record's pair.
	Stale bool
}

// A Finder looks for the note of one dump.
type Finder struct {
	*Request
	Core  vmcore.Core // nil without a dump
	Whole bool        // the dump's memory can be read: it is no stream
	// Tell, if not nil, is told what a person should know.
	Tell func(Notice)
	// Progress, if not nil, is told how much of the memory a search has looked
	// at.
	Progress func(done, total uint64)
}

func (f *Finder) tell(n Notice) {
	if f.Tell != nil {
		f.Tell(n)
	}
}

// order is the byte order of the dump's notes. Without a dump it is that of the
// processors that have a VMCS.
func (f *Finder) order() binary.ByteOrder {
	if f.Core == nil {
		return binary.LittleEndian
	}
	return f.Core.Notes().Order
}

// Find returns the note of the source asked for. If none was, it is the first
// that exists of the default record, /sys/kernel/vmcsinfo, the dump's memory
// and the layouts by processor. The error wraps [ErrNone] if there is none.
func (f *Finder) Find(ctx context.Context) (Source, error) {
	switch {
	case f.Blob != "":
		return f.fromBlob()
	case f.Pair != "":
		p, err := sysfs.ParsePair(f.Pair)
		if err != nil {
			return Source{}, Error{errors.Wrap(err, "--pair")}
		}
		s, err := f.fromPair(p, Source{Kind: Pair})
		return f.doubted(s, err)
	case f.Record != "":
		return f.fromRecord(f.Record)
	case f.Search:
		return f.searched(ctx)
	}
	for _, try := range []func(context.Context) (Source, error){f.defaultRecord, f.fromSysfs, f.searchAtDesk, f.layoutAtDesk} {
		s, err := try(ctx)
		if !errors.Is(err, ErrNone) || errors.As(err, new(RefutedError)) || errors.As(err, new(*NoLayoutError)) {
			return s, err
		}
	}
	return Source{}, ErrNone
}

func (f *Finder) fromBlob() (Source, error) {
	b, err := ReadBlob(f.Blob)
	if err != nil {
		return Source{}, Error{err}
	}
	n, err := elfnote.Wrap(b, f.Name, f.Type, f.order())
	if err != nil {
		return Source{}, Error{errors.Wrap(err, f.Blob)}
	}
	return Source{Kind: Blob, File: f.Blob, Note: n}, nil
}

// ReadBlob reads the file of a blob.
func ReadBlob(path string) ([]byte, error) {
	b, err := inputfile.ReadAll(path, elfnote.MaxBlob)
	if errors.Is(err, inputfile.ErrTooLarge) {
		err = errors.Wrap(elfnote.ErrBlob, err.Error())
	}
	return b, err
}

// fromRecord takes the note that a record leads to: out of the dump's own
// memory if it is there, otherwise the one that record has read. If the record
// is of another boot, its address is stale, but its note is not: layouts depend
// on the processor and its microcode.
func (f *Finder) fromRecord(path string) (Source, error) {
	r, err := record.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, errors.Wrap(ErrNone, err.Error())
	}
	if err != nil {
		return Source{}, Error{err}
	}
	return f.byRecord(path, r)
}

// byRecord is fromRecord with the record read.
func (f *Finder) byRecord(path string, r record.Record) (Source, error) {
	s := Source{Kind: Record, File: path, Record: r, Pair: r.Pair}
	if n, ok := f.dumpHolds(r.Pair); ok {
		s.Note, s.Read = n, InDump
		return s, nil
	}
	if rel := release(f.Core); rel != "" && r.Release != rel {
		s.OfKernel = rel
	}
	if len(r.Note) == 0 { // its memory could not be read at the time
		return f.fromPair(r.Pair, s)
	}
	s.Stale = f.Whole && r.Layout == ""
	var err error
	s.Note, err = elfnote.FromBlob(r.Note, elfnote.VMCSInfo, 0, f.order())
	return s, errors.Wrap(err, path)
}

// defaultRecord takes the record at its default place, if it is of the dump's
// kernel: on a desk it is not.
func (f *Finder) defaultRecord(context.Context) (Source, error) {
	path := filepath.Join(f.Root, DefaultRecord)
	r, err := record.ReadOwn(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Source{}, ErrNone
	case errors.Is(err, record.ErrForeign), errors.Is(err, fs.ErrPermission):
		return f.notUsed(NotUsed{Path: path, Err: err})
	case err != nil:
		return Source{}, Error{err}
	case r.Release != release(f.Core):
		return f.notUsed(NotUsed{Path: path, OfKernel: r.Release})
	}
	return f.doubted(f.byRecord(path, r))
}

// notUsed passes a source over.
func (f *Finder) notUsed(n NotUsed) (Source, error) {
	n.Release = release(f.Core)
	f.tell(n)
	return Source{}, ErrNone
}

// dumpHolds takes the note at the pair out of the dump's own memory, which has
// it if the record is of the boot that crashed.
func (f *Finder) dumpHolds(p sysfs.Pair) (elfnote.Note, bool) {
	if !f.Whole || p == (sysfs.Pair{}) {
		return elfnote.Note{}, false
	}
	note, err := f.note(readPair(f.Core, p))
	return note, err == nil
}

// fromSysfs takes the pair that the running kernel publishes, if that is the
// dump's kernel. In a capture environment it is not.
func (f *Finder) fromSysfs(context.Context) (Source, error) {
	sys := sysfs.New(f.Root)
	path := filepath.Join(f.Root, vmcsinfo)
	p, err := sys.VMCSInfo()
	switch {
	case errors.Is(err, sysfs.ErrNoPair):
		return Source{}, ErrNone
	case errors.Is(err, fs.ErrPermission): // the module's has mode 0400
		return f.notUsed(NotUsed{Path: path, Err: err})
	case err != nil:
		return Source{}, err
	}
	capture, err := sys.InCapture()
	if capture || err != nil {
		return f.notUsed(NotUsed{Path: path, Capture: true, Err: err})
	}
	running, err := sys.Release()
	if err != nil {
		return Source{}, err
	}
	if running != release(f.Core) {
		return f.notUsed(NotUsed{Path: path, OfKernel: running})
	}
	return f.doubted(f.fromPair(p, Source{Kind: Sysfs, File: path}))
}

// FromMachine returns the note of the machine that we run on: the one that its
// kernel publishes, otherwise that of the record, of whatever boot.
func (f *Finder) FromMachine() (Source, error) {
	p, err := sysfs.New(f.Root).VMCSInfo()
	if err == nil {
		var s Source
		if s, err = f.fromPair(p, Source{Kind: Sysfs, File: filepath.Join(f.Root, vmcsinfo)}); err == nil {
			return s, nil
		}
		f.tell(Failed{err})
	}
	path := filepath.Join(f.Root, DefaultRecord)
	r, err := record.ReadFile(path)
	if err != nil || len(r.Note) == 0 {
		return Source{}, ErrNone
	}
	n, err := elfnote.FromBlob(r.Note, elfnote.VMCSInfo, 0, f.order())
	return Source{Kind: Record, File: path, Record: r, Note: n}, err
}

// Capture reports whether this is a capture environment; it is not if that
// cannot be told.
func (f *Finder) Capture() bool {
	capture, err := sysfs.New(f.Root).InCapture()
	return err == nil && capture
}

// doubted warns if the note comes from the machine at hand. In a capture
// environment that is the machine that crashed, at a desk it may be any.
func (f *Finder) doubted(s Source, err error) (Source, error) {
	if err == nil && s.Read != InDump && !f.Capture() {
		f.tell(OfThisMachine{})
	}
	return s, err
}

// release returns the OSRELEASE of the dump's VMCOREINFO, or "".
func release(c vmcore.Core) string {
	return guest.InfoLine(guest.VMCoreInfo(c), "OSRELEASE")
}
