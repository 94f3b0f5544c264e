package vmcore

import (
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// A Flat is an open flattened dump: a dump of another kind, the plain form, cut
// into records, each of which says where its bytes belong. Its writers are
// makedumpfile -F, whose output goes through a pipe to ssh or to a raw device,
// and QEMU (dump-guest-memory -z, -l, -s), which may be given a descriptor that
// cannot seek. makedumpfile -R puts the plain form together; a Flat reads it as
// it lies, without unpacking, and is safe for concurrent use where the
// underlying reader is.
//
// All offsets that the Core's methods tell or take are those of the plain form,
// and so are a Layout's; only the steps of PlanInPlace are in the file itself.
type Flat struct {
	// Core is the dump in plain form.
	Core
	*flat.Records
}

// openFlat opens the flattened dump in the first size bytes of r: it walks the
// records' headers once, from the first to the end marker, and opens the plain
// form with open. It fails with a [*FormatError] where r is no flattened dump,
// where a record is none, or where the plain form is flattened again. What
// follows the end marker is not looked at.
//
// A file that ends before the end marker is a truncated dump of the records
// that it holds. makedumpfile -R, crash and libkdumpfile refuse such a file.
func openFlat(r io.ReaderAt, size int64, open func(io.ReaderAt, int64) (Core, error)) (*Flat, error) {
	records, err := flat.Open(r, size)
	if err != nil {
		return nil, err
	}
	f := &Flat{Records: records}
	if f.Core, err = open(f.View, f.View.Size); err != nil {
		err = errors.Wrap(err, "in the plain form")
		if f.IsCut() {
			err = &cutOff{err, flat.CutError(f.End, "record", size, "a record, or the end marker")}
		}
		return nil, err
	}
	return f, nil
}

// cutOff is the error for the plain form of a dump whose file ends too early.
type cutOff struct{ plain, cut error }

func (e *cutOff) Error() string { return fmt.Sprintf("%v; %v", e.cut, e.plain) }
func (e *cutOff) Unwrap() error { return e.cut }

// CutOff reports whether the file of a flattened dump ends before its end marker.
func CutOff(c Core) bool {
	f, ok := asFlat(c)
	return ok && f.IsCut()
}

// asFlat returns the flattened dump that c is, on disk or not.
func asFlat(c Core) (*Flat, bool) {
	if o, ok := c.(*File); ok {
		c = o.Core
	}
	f, ok := c.(*Flat)
	return f, ok
}

// Plain implements [Core].
func (f *Flat) Plain() Core { return f.Core }

// Claimed implements [Core]: a file without an end marker should be longer.
func (f *Flat) Claimed() int64 {
	end := max(f.Core.Claimed(), f.Cut)
	if f.IsCut() {
		end = max(end, f.PlainSize()+1)
	}
	return end
}

// PlainSize returns the size of the plain form in bytes.
func (f *Flat) PlainSize() int64 { return f.View.Size }

// Format implements [Core]: "flat-" and the plain form's.
func (f *Flat) Format() string { return "flat-" + f.Core.Format() }

// Verify implements [Core]: what is wrong with the records, and then what is
// wrong with the plain form. Records out of order are nothing wrong: makedumpfile
// itself writes an ELF core's program headers last, and the page descriptors
// of a compressed dump in between their pages.
func (f *Flat) Verify() []Finding {
	used := []plan.Extent{{Off: uint64(f.NotesOff()), Size: uint64(f.Notes().Size)}}
	u, err := f.Used()
	if err != nil {
		used = nil // the plain form's own Verify tells
	}
	return append(f.Records.Verify(append(used, u...)), f.Core.Verify()...)
}

// PlanInPlace implements [Core]: the plan for the plain form, with each step
// done where the records hold the bytes.
func (f *Flat) PlanInPlace(pl Placement, sp elfnote.Splice) (*InPlace, error) {
	p, err := f.Core.PlanInPlace(pl, sp)
	if err != nil {
		return nil, err
	}
	var headers []plan.Extent
	if c, ok := f.Core.(interface{ Headers() []plan.Extent }); ok {
		headers = c.Headers()
	}
	return f.Records.PlanInPlace(p, headers)
}
