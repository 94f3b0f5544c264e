package cli

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/record"
	"vmcsnote/sysfs"
)

const (
	asRoot      = "run it as root"
	recordAgain = "run vmcsnote record"
	loadModule  = "install vmcsinfo-dkms if it is not there, modprobe vmcsinfo, then " + recordAgain
)

// inapplicable reports whether there can be nothing to record: the kernel
// publishes no pair, since the processor has no VMCS.
func (a *armoury) inapplicable() bool {
	if _, err := a.sys.VMCSInfo(); !errors.Is(err, sysfs.ErrNoPair) {
		return false
	}
	why := a.sys.NoVMX()
	if why != "" {
		a.found = isNone
		a.aside(isNone, "pair", why+": nothing to record", "")
	}
	return why != ""
}

// kernel checks the running kernel and the record of it.
func (a *armoury) kernel() {
	a.loaded()
	pair := a.pair()
	if rec := a.record(pair); rec != nil && pair != nil && len(rec.Note) > 0 {
		a.note(*pair, rec)
	}
}

// loaded checks that kdump has been armed.
func (a *armoury) loaded() {
	const what = "kdump"
	switch loaded, err := a.sys.CrashLoaded(); {
	case errors.Is(err, fs.ErrNotExist):
		a.no(what, "this kernel has no kdump: "+err.Error(), "boot one that has, with crashkernel= on its command line")
	case err != nil:
		a.unknown(what, err.Error(), asRoot)
	case !loaded:
		a.no(what, "no capture kernel is loaded", "start kdump.service or kdump-tools.service; it needs crashkernel= on the command line")
	default:
		a.ok(what, "a capture kernel is loaded")
	}
}

// pair checks that the kernel publishes one, and returns it.
func (a *armoury) pair() *sysfs.Pair {
	const what = "pair"
	p, err := a.sys.VMCSInfo()
	switch {
	case errors.Is(err, fs.ErrPermission):
		a.unknown(what, err.Error(), asRoot)
	case err != nil:
		a.no(what, err.Error(), loadModule)
	default:
		a.ok(what, "the kernel publishes "+pairText(p))
		return &p
	}
	return nil
}

// record checks that there is a record of this boot, and of the pair if there
// is one, and returns it.
func (a *armoury) record(pair *sysfs.Pair) *record.Record {
	const what = "record"
	path := filepath.Join(a.root, defaultRecord)
	r, err := record.ReadOwn(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			a.unknown(what, err.Error(), asRoot)
		} else {
			a.no(what, err.Error(), recordAgain)
		}
		return nil
	}
	id, err := a.sys.BootID()
	release, err2 := a.sys.Release()
	text := path + ", of " + day(r.Time)
	switch {
	case err != nil || err2 != nil || id != r.BootID:
		a.no(what, text+", is of another boot", recordAgain)
	case r.Release != release:
		a.no(what, text+", is of kernel "+r.Release+", and this is "+release, recordAgain)
	case pair != nil && r.Pair != *pair:
		a.no(what, text+", has another pair: "+pairText(r.Pair), recordAgain)
	case len(r.Note) == 0:
		a.ok(what, text+": the pair alone, by which the note will be read in the dump")
	default:
		a.ok(what, text+", of this boot")
	}
	return &r
}

// note compares the note recorded with the one in memory. Where memory cannot
// be read the record will do.
func (a *armoury) note(p sysfs.Pair, r *record.Record) {
	const what = "note"
	s, err := a.finder.fromPair(p, source{})
	switch {
	case errors.Is(err, elfnote.ErrBlob):
		a.no(what, err.Error(), loadModule)
	case err != nil:
		a.aside(isUnknown, what, "not compared with the one recorded: "+err.Error(), asRoot+", if memory can be read at all")
	case !bytes.Equal(s.note.Encode(a.finder.order()), r.Note):
		a.no(what, "the one in memory is not the one recorded", recordAgain)
	default:
		a.ok(what, "the one in memory is the one recorded")
	}
}

// day prints the time of a record.
func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
