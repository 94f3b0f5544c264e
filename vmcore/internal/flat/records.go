// Package flat reads and writes flattened dumps: a dump of another kind, the
// plain form, cut into records. It knows nothing of what the plain form is.
package flat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// The format: a header, zeros to HeaderSize, then records. A record is its
// bytes' offset in the plain form and their number, 64 bits each, signed and
// big-endian on every machine, and then the bytes. The last one has -1 for both
// and no bytes.
const (
	Signature    = "makedumpfile\x00\x00\x00\x00" // then type and version, 64 bits each
	Type         = 1
	Version      = 1
	HeaderSize   = 4096 // MAX_SIZE_MDF_HEADER
	RecordHeader = 16   // struct makedumpfile_data_header
)

// Records locate each byte of the plain form in the file of a flattened dump.
type Records struct {
	// Size is the file's size in bytes.
	Size int64

	View *View
	End  int64 // where the end marker lies in the file, or the file ends without one
	Cut  int64 // where the plain form ends by a record that the file's end cuts off
}

// Open walks the records of the flattened dump in the first size bytes of
// r, from the first to the end marker. It fails with a [*plan.FormatError]
// where r is no flattened dump, where a record is none, or where the plain form
// is flattened again.
//
// It keeps 24 bytes for each run of records of the same size that follow one
// another in the plain form, as those of an ELF core do, and otherwise for each
// record: less than one and a half bytes for each byte of the file, and no more
// than [MaxRuns] runs, 48 MiB; where records overlap, up to four times that
// while it sorts out which ones win.
func Open(r io.ReaderAt, size int64) (*Records, error) {
	if err := CheckHeader(r, size); err != nil {
		return nil, err
	}
	w := &walk{r: r, size: size, at: HeaderSize}
	runs, err := w.walk()
	if err != nil {
		return nil, err
	}
	f := &Records{Size: size, End: w.at, Cut: w.cut, View: &View{R: r}}
	v := f.View
	if v.Runs, v.Shared, err = Resolve(runs); err != nil {
		return nil, err
	}
	if n := len(v.Runs); n > 0 {
		v.Size = v.Runs[n-1].End()
	}
	if err := v.CheckHoles(size); err != nil {
		return nil, err
	}
	if Is(v) {
		return nil, errors.Wrap(plan.FormatErrorf(0, "signature", "a flattened dump within a flattened dump", "a dump in plain form"), "in the plain form")
	}
	return f, nil
}

// ReadAt reads the plain form. What no record holds reads as zeros, as in the
// holes that makedumpfile -R leaves.
func (f *Records) ReadAt(p []byte, off int64) (int, error) { return f.View.ReadAt(p, off) }

// Is reports whether r begins as a flattened dump does.
func Is(r io.ReaderAt) bool { return plan.HasAt(r, 0, Signature) }

// IsCut reports whether the file ends before its end marker.
func (f *Records) IsCut() bool { return f.Size-f.End < RecordHeader || f.Cut > 0 }

// CheckHeader makes sure that r begins as a flattened dump of size bytes does.
func CheckHeader(r io.ReaderAt, size int64) error {
	b := make([]byte, min(max(size, 0), int64(len(Signature)+16)))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return errors.Wrapf(plan.NoEOF(err), "offset %#x", n)
	}
	if !bytes.HasPrefix(b, []byte(Signature)) {
		found := fmt.Sprintf("%q", b[:min(len(b), len(Signature))])
		return &plan.FormatError{Off: 0, What: "signature", Found: found, Want: fmt.Sprintf("%q", Signature), Err: plan.ErrNotCore}
	}
	if size < HeaderSize {
		return CutError(0, "makedumpfile_header", size, fmt.Sprintf("%d bytes", HeaderSize))
	}
	b = b[len(Signature):]
	if typ := int64(binary.BigEndian.Uint64(b)); typ != Type {
		return plan.FormatErrorf(16, "type", fmt.Sprint(typ), "%d", Type)
	}
	if version := int64(binary.BigEndian.Uint64(b[8:])); version != Version {
		return plan.FormatErrorf(24, "version", fmt.Sprint(version), "%d", Version)
	}
	return nil
}

// CutError is the error for a file that ends too early.
func CutError(off int64, what string, size int64, want string) error {
	return plan.TruncatedErrorf(off, what, fmt.Sprintf("the end of the file at %#x", size), "%s", want)
}
