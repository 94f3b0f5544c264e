package armed

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/source"
	"vmcsnote/record"
	"vmcsnote/sysfs"
)

// inapplicable reports whether there can be nothing to record: the kernel
// publishes no pair because the processor has no VMCS.
func (c *checker) inapplicable() bool {
	if _, err := c.sys.VMCSInfo(); !errors.Is(err, sysfs.ErrNoPair) {
		return false
	}
	why := c.sys.NoVMX()
	if why != "" {
		c.State = None
		c.aside(Check{Name: "pair", State: None, Text: why + ": nothing to record"})
	}
	return why != ""
}

// kernel checks the running kernel and the record of it.
func (c *checker) kernel() {
	c.loaded()
	pair, err := c.sys.VMCSInfo()
	if errors.Is(err, sysfs.ErrNoPair) {
		c.byLayout(err)
		return
	}
	published := c.pair(pair, err)
	if rec := c.record(published); rec != nil && published != nil && len(rec.Note) > 0 {
		c.note(pair, rec)
	}
}

// loaded checks that kdump has been armed.
func (c *checker) loaded() {
	const what = "kdump"
	switch loaded, err := c.sys.CrashLoaded(); {
	case errors.Is(err, fs.ErrNotExist):
		c.no(what, "this kernel has no kdump: "+err.Error(), BootWithKdump)
	case err != nil:
		c.forbidden(what, err)
	case !loaded:
		c.no(what, "no capture kernel is loaded", LoadKdump)
	default:
		c.ok(what, "a capture kernel is loaded")
	}
}

// pair checks that the kernel publishes one, and returns it.
func (c *checker) pair(p sysfs.Pair, err error) *sysfs.Pair {
	const what = "pair"
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.forbidden(what, err)
	case err != nil:
		c.no(what, err.Error(), LoadModule)
	default:
		c.ok(what, "the kernel publishes "+quoted(p))
		return &p
	}
	return nil
}

// record checks that there is a record of this boot, and of the pair if there
// is one, and returns it.
func (c *checker) record(pair *sysfs.Pair) *record.Record {
	const what = "record"
	path := filepath.Join(c.root, source.DefaultRecord)
	r, err := record.ReadOwn(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			c.forbidden(what, err)
		} else {
			c.no(what, err.Error(), Record)
		}
		return nil
	}
	id, err := c.sys.BootID()
	release, err2 := c.sys.Release()
	text := path + ", of " + r.When()
	switch {
	case err != nil || err2 != nil || id != r.BootID:
		c.no(what, text+", is of another boot", Record)
	case r.Release != release:
		c.no(what, text+", is of kernel "+r.Release+", and this is "+release, Record)
	case pair != nil && r.Layout != "":
		c.no(what, text+", is of "+r.Layout+", and the kernel publishes a note", Record)
	case pair != nil && r.Pair != *pair:
		c.no(what, text+", has another pair: "+quoted(r.Pair), Record)
	case len(r.Note) == 0:
		c.ok(what, text+": the pair alone, by which the note will be read in the dump")
	default:
		c.ok(what, text+", of this boot")
	}
	return &r
}

// note compares the recorded note with the one in memory. If memory cannot be
// read, the record is enough.
func (c *checker) note(p sysfs.Pair, r *record.Record) {
	const what = "note"
	s, err := c.finder.FromPair(p)
	switch {
	case errors.Is(err, elfnote.ErrBlob):
		c.no(what, err.Error(), LoadModule)
	case err != nil:
		c.aside(Check{Name: what, State: Unknown, Text: "not compared with the one recorded: " + err.Error(), Cures: []Cure{BecomeRoot}})
	case !bytes.Equal(s.Note.Encode(binary.LittleEndian), r.Note):
		c.no(what, "the one in memory is not the one recorded", Record)
	default:
		c.ok(what, "the one in memory is the one recorded")
	}
}

func quoted(p sysfs.Pair) string { return strconv.Quote(p.String()) }
