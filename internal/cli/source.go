package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/inputfile"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// defaultRecord is where record puts what inject looks for.
const defaultRecord = "/etc/vmcsnote/record"

// sourceFlags say where a note comes from.
type sourceFlags struct {
	blob, pair, record string
	search             bool
	memory             string
	name               string
	typ                uint32
	root               string
}

func (f *sourceFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.blob, "blob", "", "take the note from `FILE`: a complete note, or the text alone")
	fs.StringVar(&f.pair, "pair", "", "take it from physical memory at `\"ADDR SIZE\"`, both hexadecimal")
	fs.StringVar(&f.record, "record", "", "take it from `FILE`, a record of the running kernel")
	fs.BoolVar(&f.search, "search", false, "look for it in the core's own memory; not in a stream")
	fs.StringVar(&f.memory, "memory", "auto", "read the pair's memory from `WHERE`: vmcore (the core itself; not a stream), devmem, kcore, or auto for these in turn")
	fs.StringVar(&f.name, "name", elfnote.VMCSInfo, "`NAME` of the note")
	fs.Uint32Var(&f.typ, "type", 0, "n_type of the note, a `NUMBER`")
	fs.StringVar(&f.root, "root", "/", "look for /sys, /proc, /dev and /etc below `DIR`")
}

// check refuses what contradicts itself, before any file is touched.
func (f *sourceFlags) check() error {
	var given []string
	for _, s := range []struct {
		flag string
		set  bool
	}{{"--blob", f.blob != ""}, {"--pair", f.pair != ""}, {"--record", f.record != ""}, {"--search", f.search}} {
		if s.set {
			given = append(given, s.flag)
		}
	}
	switch {
	case len(given) > 1:
		return usagef("%s: one source at a time", strings.Join(given, ", "))
	case f.name == "" || len(f.name) > 15:
		return usagef("--name: makedumpfile reads names of 1 to 15 bytes, not %d", len(f.name))
	case f.name != elfnote.VMCSInfo && (len(given) == 0 || f.record != ""):
		return usagef("--name %s: say where it comes from, by --blob, --pair or --search", f.name)
	}
	switch f.memory {
	case "auto", "vmcore", "devmem", "kcore":
		return nil
	}
	return usagef("--memory %q: expected auto, vmcore, devmem or kcore", f.memory)
}

// given reports whether a source was asked for.
func (f *sourceFlags) given() bool {
	return f.blob != "" || f.pair != "" || f.record != "" || f.search
}

// A source is a note and where it was found.
type source struct {
	kind  string // as in --json: blob, pair, record, sysfs, search
	where string // for people
	note  elfnote.Note
	core  bool // read from the core's own memory
}

// A finder looks for a note on behalf of one core.
type finder struct {
	*sourceFlags
	e     *env
	core  vmcore.Core
	whole bool // the core's memory can be read: it is no stream
}

// order is the byte order of the core's notes. Without a core it is that of the
// processors that have a VMCS.
func (f *finder) order() binary.ByteOrder {
	if f.core == nil {
		return binary.LittleEndian
	}
	return f.core.Notes().Order
}

// find returns the note of the first source there is, in the order that doc/
// promises. Without any it fails with errNoNote.
func (f *finder) find(ctx context.Context) (source, error) {
	switch {
	case f.blob != "":
		return f.fromBlob()
	case f.pair != "":
		p, err := sysfs.ParsePair(f.pair)
		if err != nil {
			return source{}, errSource{errors.Wrap(err, "--pair")}
		}
		s, err := f.fromPair(p, source{kind: "pair", where: "--pair " + pairText(p)})
		return f.warned(s, err)
	case f.record != "":
		return f.fromRecord(f.record)
	case f.search:
		return f.searched(ctx)
	}
	for _, try := range []func(context.Context) (source, error){f.defaultRecord, f.fromSysfs, f.searchAtDesk} {
		s, err := try(ctx)
		if !errors.Is(err, errNoNote) || errors.As(err, new(refuted)) {
			return s, err
		}
	}
	return source{}, errNoNote
}

// An errSource is an error of where a note was to come from, not of the core.
type errSource struct{ error }

func (e errSource) Unwrap() error { return e.error }

func (f *finder) fromBlob() (source, error) {
	b, err := readBounded(f.blob, elfnote.MaxBlob)
	if err != nil {
		return source{}, errSource{err}
	}
	n, err := elfnote.Wrap(b, f.name, f.typ, f.order())
	if err != nil {
		return source{}, errSource{errors.Wrap(err, f.blob)}
	}
	return source{kind: "blob", where: f.blob, note: n}, nil
}

// fromRecord takes the note that a record leads to: out of the core's own memory
// where it is there, else the one that record has read. Where the record is of
// another boot, its address is stale, but its note is not: layouts depend on
// the processor and its microcode.
func (f *finder) fromRecord(path string) (source, error) {
	r, err := record.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return source{}, errors.Wrap(errNoNote, err.Error())
	}
	if err != nil {
		return source{}, errSource{err}
	}
	return f.byRecord(path, r)
}

// byRecord is fromRecord with the record read.
func (f *finder) byRecord(path string, r record.Record) (s source, err error) {
	if s, ok := f.coreHolds(r.Pair); ok {
		s.where += ", by the record " + path
		return s, nil
	}
	s = source{kind: "record", where: fmt.Sprintf("the record %s of %s", path, r.Time.UTC().Format("2006-01-02 15:04 UTC"))}
	if rel := osRelease(f.core); rel != "" && r.Release != rel {
		s.where += fmt.Sprintf(", of another kernel (%s, the core's is %s)", name(r.Release), name(rel))
	}
	if len(r.Note) == 0 { // its memory could not be read at the time
		return f.fromPair(r.Pair, s)
	}
	if f.whole {
		s.where += "; the core's memory has none at " + pairText(r.Pair) + ": overwritten, or the record is of another boot"
	}
	s.note, err = elfnote.FromBlob(r.Note, elfnote.VMCSInfo, 0, f.order())
	return s, errors.Wrap(err, path)
}

// defaultRecord takes the record at its default place, if it is of the core's
// kernel: on a desk it is not.
func (f *finder) defaultRecord(context.Context) (source, error) {
	path := filepath.Join(f.root, defaultRecord)
	r, err := record.ReadOwn(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return source{}, errNoNote
	case errors.Is(err, record.ErrForeign), errors.Is(err, fs.ErrPermission):
		f.e.say("%v: not used", err)
		return source{}, errNoNote
	case err != nil:
		return source{}, errSource{err}
	}
	if rel := osRelease(f.core); r.Release != rel {
		f.e.say("%s is of kernel %s, the core %s: not used", path, name(r.Release), ofKernel(f.core))
		return source{}, errNoNote
	}
	return f.warned(f.byRecord(path, r))
}

// coreHolds takes the note at the pair out of the core's own memory, which is
// there if the record is of the very boot that crashed.
func (f *finder) coreHolds(p sysfs.Pair) (source, bool) {
	if !f.whole {
		return source{}, false
	}
	b := make([]byte, p.Size)
	n, err := f.core.ReadPhys(b, p.Addr)
	note, err := f.note(b[:n], err)
	return source{kind: "record", where: "the core's memory", note: note, core: true}, err == nil
}

// fromSysfs takes the pair that the running kernel publishes, if that is the
// core's kernel. In a capture environment it is not.
func (f *finder) fromSysfs(context.Context) (source, error) {
	sys := sysfs.New(f.root)
	p, err := sys.VMCSInfo()
	switch {
	case errors.Is(err, sysfs.ErrNoPair):
		return source{}, errNoNote
	case errors.Is(err, fs.ErrPermission): // the module's has mode 0400
		f.e.say("%v: not used", err)
		return source{}, errNoNote
	case err != nil:
		return source{}, err
	}
	path := filepath.Join(f.root, "/sys/kernel/vmcsinfo")
	capture, err := sys.InCapture()
	if err != nil {
		f.e.say("%s: not used, for this may be a capture kernel: %v", path, err)
		return source{}, errNoNote
	}
	if capture {
		f.e.say("%s is the capture kernel's: not used", path)
		return source{}, errNoNote
	}
	running, err := sys.Release()
	if err != nil {
		return source{}, err
	}
	if running != osRelease(f.core) {
		f.e.say("%s is of kernel %s, the core %s: not used", path, name(running), ofKernel(f.core))
		return source{}, errNoNote
	}
	s, err := f.fromPair(p, source{kind: "sysfs", where: path + ", " + pairText(p)})
	return f.warned(s, err)
}

// capture reports whether this is a capture environment; it is not if that
// cannot be told.
func (f *finder) capture() bool {
	capture, err := sysfs.New(f.root).InCapture()
	return err == nil && capture
}

// warned warns of a note that comes from the machine at hand. In a capture
// environment that is the crashed one, but at a desk it may be any.
func (f *finder) warned(s source, err error) (source, error) {
	if err == nil && !s.core && !f.capture() {
		f.e.say("warning: the note is of this machine: it is right only for a core of the same processor")
	}
	return s, err
}

// searchAtDesk searches without being asked to, but not where a dump has just
// been saved and a machine waits to boot: that reads all of it.
func (f *finder) searchAtDesk(ctx context.Context) (source, error) {
	if f.capture() {
		return source{}, errNoNote
	}
	return f.searched(ctx)
}

// searched is fromSearch, and warns of memory that could not be searched.
func (f *finder) searched(ctx context.Context) (source, error) {
	if f.whole {
		f.e.partial(vmcore.ShortfallOf(f.core), "a note")
	}
	return f.fromSearch(ctx)
}

// fromSearch looks through the core's memory.
func (f *finder) fromSearch(ctx context.Context) (source, error) {
	if !f.whole {
		if f.search {
			return source{}, usagef("--search: a stream's memory is not there yet when the note is needed")
		}
		return source{}, errNoNote
	}
	cs, err := f.candidates(ctx)
	if err != nil {
		return source{}, err
	}
	if len(cs) == 0 {
		err := errors.Wrapf(errNoNote, "no intact %s note in the core's memory", f.name)
		if f.name != elfnote.VMCSInfo {
			return source{}, withHint{err, "give --blob or --pair"}
		}
		return source{}, err
	}
	c, err := f.pickNote(ctx, cs)
	if err != nil {
		return source{}, err
	}
	return source{kind: "search", where: fmt.Sprintf("the core's memory at %#x", c.Addr), note: c.Note, core: true}, nil
}

// osRelease returns the OSRELEASE of the core's VMCOREINFO, or "".
func osRelease(c vmcore.Core) string {
	return infoLine(guest.VMCoreInfo(c), "OSRELEASE")
}

// ofKernel says which kernel a core is of.
func ofKernel(c vmcore.Core) string {
	if rel := osRelease(c); rel != "" {
		return "of " + name(rel)
	}
	return "does not say (no OSRELEASE in VMCOREINFO)"
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// readBounded reads a file of at most limit bytes. It may be a FIFO that has a
// writer, as a shell's <(command) is, but it does not wait for one.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := inputfile.Open(path)
	fifo := err
	if errors.Is(err, inputfile.ErrFIFO) {
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(b) == 0 && fifo != nil {
		return nil, errors.Wrap(fifo, "nobody writes to it")
	}
	if err == nil && int64(len(b)) > limit {
		err = errors.Wrapf(elfnote.ErrBlob, "%s: more than %d bytes", path, limit)
	}
	return b, err
}
