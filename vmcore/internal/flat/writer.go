package flat

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// BodySize is the size of the records that a [Writer] writes, in bytes: that of
// makedumpfile's.
const BodySize = 64 << 10

// EndMarker is the end marker.
var EndMarker = bytes.Repeat([]byte{0xff}, RecordHeader)

// Header returns the header of a flattened dump.
func Header() []byte {
	b := make([]byte, HeaderSize)
	copy(b, Signature)
	binary.BigEndian.PutUint64(b[16:], Type)
	binary.BigEndian.PutUint64(b[24:], Version)
	return b
}

// PutRecordHeader writes the header of a record to b.
func PutRecordHeader(b []byte, off, size int64) {
	binary.BigEndian.PutUint64(b, uint64(off))
	binary.BigEndian.PutUint64(b[8:], uint64(size))
}

// A Writer writes a flattened dump. What is written to it is the plain
// form, from the first byte to the last; it comes out in records of 64 KiB, in
// order. It keeps one record, and writes nothing before that is full.
type Writer struct {
	w     io.Writer
	off   int64 // of the record in the plain form
	buf   []byte
	begun bool
}

// NewWriter returns a Writer to w. To end the dump, Close it.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, buf: make([]byte, RecordHeader, RecordHeader+BodySize)}
}

// Write takes the next bytes of the plain form. After an error the writer must
// not be used.
func (f *Writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n, err
			}
		}
		k := min(len(p)-n, cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[n:n+k]...)
		n += k
	}
	return n, nil
}

// Close writes the last record and the end marker. It does not close the
// underlying writer. A dump that is not closed is not complete, and no reader
// takes it.
func (f *Writer) Close() error {
	if err := f.flush(); err != nil {
		return err
	}
	_, err := f.w.Write(EndMarker)
	return err
}

// flush writes the record that was gathered, if there is any, and before the
// first one the dump's header.
func (f *Writer) flush() error {
	if !f.begun {
		if _, err := f.w.Write(Header()); err != nil {
			return err
		}
		f.begun = true
	}
	size := int64(len(f.buf) - RecordHeader)
	if size == 0 {
		return nil
	}
	PutRecordHeader(f.buf, f.off, size)
	if _, err := f.w.Write(f.buf); err != nil {
		return err
	}
	f.off += size
	f.buf = f.buf[:RecordHeader]
	return nil
}

// Flatten writes the copy that l lays out to w as a flattened dump. r reads the
// original's plain form, from its first byte on. What Flatten writes depends on
// the original's plain form and the change alone, not on how the original was
// cut into records.
//
// If r ends before the layout does, what came is written as a complete
// flattened dump of a truncated core, and the error is [plan.ErrTruncated].
func Flatten(ctx context.Context, w io.Writer, r io.Reader, l *plan.Layout) error {
	f := NewWriter(w)
	s := &plan.Streamer{Ctx: ctx, W: f, R: r, Buf: make([]byte, plan.BufSize)}
	if err := s.Run(l); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if l.Size != plan.Endless && f.off < l.Size {
		return errors.Wrapf(plan.ErrTruncated, "the copy ends at %#x of %#x bytes", f.off, l.Size)
	}
	return nil
}
