package vmcore

import (
	"context"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/flat"
)

// PlanCopy implements [Core], for the plain form.
func (f *Flat) PlanCopy(sp elfnote.Splice) (*Layout, error) {
	l, err := f.Core.PlanCopy(sp)
	if err == nil {
		l.Splice = sp
	}
	return l, err
}

// writeFlat writes the copy of a flattened dump that l lays out, in the records
// that [Stream] would write: a copy and a stream are the same bytes. If a stream
// of the dump could not be changed, the copy has records of 64 KiB in the order
// of the plain form. That can turn out at the end: a new file is then written
// once more, and for any other w, which may be a pipe, it is tried first.
func (o *File) writeFlat(ctx context.Context, w io.Writer, l *Layout, opt Options) error {
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
	return flat.Flatten(ctx, w, &countReader{io.NewSectionReader(o.plain(), 0, o.PlainSize()), opt.counter(o.PlainSize())}, l)
}

// streamRecords writes the copy as a stream. If it could not be changed that way
// the error is for unstreamable, and w has nothing, or is a new file.
func (o *File) streamRecords(ctx context.Context, w io.Writer, l *Layout, opt Options) error {
	f := o.Core.(*Flat)
	stream := func(w io.Writer, opt Options) error {
		r := &countReader{io.NewSectionReader(o.f, 0, f.Size), opt.counter(f.Size)}
		_, err := streamFlat(ctx, w, &head{r: r, file: io.NewSectionReader(o.f, 0, f.Size), size: f.Size}, func(Core) (elfnote.Splice, error) { return l.Splice, nil })
		if f.IsCut() && errors.Is(err, ErrTruncated) && !unstreamable(err) {
			return nil // the copy is cut off where the file is
		}
		return err
	}
	if _, ok := newFile(w); !ok {
		if err := stream(io.Discard, Options{}); err != nil {
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

// FlattenTo writes the copy that l lays out to w as a flattened dump, in records
// of 64 KiB. r gives the original in plain form, from its first byte on: of a
// [*Flat] that is io.NewSectionReader(f, 0, f.PlainSize()).
//
// Where r ends before the layout does, what came is written as a complete
// flattened dump of a truncated core, and the error is [ErrTruncated].
func FlattenTo(ctx context.Context, w io.Writer, r io.Reader, l *Layout) error {
	return flat.Flatten(ctx, w, r, l)
}
