package vmcore

import (
	"context"
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// A flatDump is an open flattened dump: a dump of another kind, the plain form,
// cut into records, each of which says where its bytes belong. Its writers are
// makedumpfile -F, whose output goes through a pipe to ssh or to a raw device,
// and QEMU (dump-guest-memory -z, -l, -s), which may be given a descriptor that
// cannot seek. makedumpfile -R puts the plain form together; a flatDump reads
// it as it lies, without unpacking, and is safe for concurrent use where the
// underlying reader is.
//
// All offsets that the Core's methods return or take are those of the plain
// form, and so are a Layout's; only the steps of PlanInPlace are in the file
// itself.
type flatDump struct {
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
func openFlat(r io.ReaderAt, size int64, open func(io.ReaderAt, int64) (Core, error)) (*flatDump, error) {
	records, err := flat.Open(r, size)
	if err != nil {
		return nil, err
	}
	f := &flatDump{Records: records}
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

// CutOff reports whether the file of a flattened dump ends before its end
// marker.
func CutOff(c Core) bool {
	f, ok := asFlat(c)
	return ok && f.IsCut()
}

// asFlat returns the flattened dump that c is, on disk or not.
func asFlat(c Core) (*flatDump, bool) {
	if o, ok := c.(*File); ok {
		c = o.Core
	}
	f, ok := c.(*flatDump)
	return f, ok
}

// Plain implements [Core].
func (f *flatDump) Plain() Core { return f.Core }

// Claimed implements [Core]: a file without an end marker should be longer.
func (f *flatDump) Claimed() int64 {
	end := max(f.Core.Claimed(), f.Cut)
	if f.IsCut() {
		end = max(end, f.PlainSize()+1)
	}
	return end
}

// PlainSize returns the size of the plain form in bytes.
func (f *flatDump) PlainSize() int64 { return f.View.Size }

// Format implements [Core]: "flat-" and the plain form's.
func (f *flatDump) Format() string { return "flat-" + f.Core.Format() }

// Verify implements [Core]: what is wrong with the records, and then what is
// wrong with the plain form. Records out of order are nothing wrong:
// makedumpfile itself writes an ELF core's program headers last, and the page
// descriptors of a compressed dump in between their pages.
func (f *flatDump) Verify() []Finding {
	used := []plan.Extent{{Off: uint64(f.NotesOff()), Size: uint64(f.Notes().Size)}}
	u, err := f.Used()
	if err != nil {
		used = nil // the plain form's own Verify reports it
	}
	return append(f.Records.Verify(append(used, u...)), f.Core.Verify()...)
}

// PlanInPlace implements [Core]: the plan for the plain form, with each step
// done where the records hold the bytes.
func (f *flatDump) PlanInPlace(pl Placement, sp elfnote.Splice) (*InPlace, error) {
	if pl == Split { // no writer of flattened dumps leaves room for a program header
		return nil, errors.Wrap(ErrNoPlace, "a flattened dump")
	}
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

// PlanCopy implements [Core], for the plain form.
func (f *flatDump) PlanCopy(sp elfnote.Splice) (*Layout, error) {
	l, err := f.Core.PlanCopy(sp)
	if err == nil {
		l.Splice = sp
	}
	return l, err
}

// writeFlat writes the copy of a flattened dump that l lays out, in the records
// that [Stream] would write: a copy and a stream are the same bytes. If a
// stream of the dump could not be changed, the copy has records of 64 KiB in
// the order of the plain form. That can turn out at the end: a new file is then
// written once more, and for any other w, which may be a pipe, it is tried
// first.
func (o *File) writeFlat(ctx context.Context, w io.Writer, l *Layout, opt CopyOptions) error {
	err := o.streamRecords(ctx, w, l, opt)
	if !unstreamable(err) {
		return err
	}
	if file, ok := newFile(w); ok {
		if err := file.Truncate(0); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return flat.Flatten(ctx, w, &countReader{io.NewSectionReader(o.plain(), 0, o.PlainSize()), opt.Progress.counter(o.PlainSize())}, l)
}

// streamRecords writes the copy as a stream. If it could not be changed that
// way the error is for unstreamable, and w has nothing, or is a new file.
func (o *File) streamRecords(ctx context.Context, w io.Writer, l *Layout, opt CopyOptions) error {
	f := o.Core.(*flatDump)
	stream := func(w io.Writer, opt CopyOptions) error {
		r := &countReader{io.NewSectionReader(o.f, 0, f.Size), opt.Progress.counter(f.Size)}
		_, err := streamFlat(ctx, w, &head{r: r, file: io.NewSectionReader(o.f, 0, f.Size), size: f.Size}, func(Core) (elfnote.Splice, error) { return l.Splice, nil })
		if f.IsCut() && errors.Is(err, ErrTruncated) && !unstreamable(err) {
			return nil // the copy is cut off where the file is
		}
		return err
	}
	if _, ok := newFile(w); !ok {
		if err := stream(io.Discard, CopyOptions{}); err != nil {
			return err
		}
	}
	return stream(w, opt)
}

// newFile returns the new file that w is.
func newFile(w io.Writer) (*atomicfile.File, bool) {
	file, ok := w.(*atomicfile.File)
	return file, ok && !file.Device()
}

// unstreamable reports whether err says that a stream could not be changed.
func unstreamable(err error) bool {
	return errors.As(err, new(*Unwritten)) || errors.As(err, new(*Broken))
}
