package vmcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pkg/errors"

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
	// Size is the file's size in bytes; that of the plain form is PlainSize.
	Size int64

	view *flatView
	end  int64 // where the end marker lies in the file, or the file ends without one
	cut  int64 // where the plain form ends by a record that the file's end cuts off
}

// The format: a header, zeros to flatHeaderSize, then records. A record is its
// bytes' offset in the plain form and their number, 64 bits each, signed and
// big-endian on every machine, and then the bytes. The last one has -1 for both
// and no bytes.
const (
	flatSignature    = "makedumpfile\x00\x00\x00\x00" // then type and version, 64 bits each
	flatType         = 1
	flatVersion      = 1
	flatHeaderSize   = 4096 // MAX_SIZE_MDF_HEADER
	flatRecordHeader = 16   // struct makedumpfile_data_header
)

// isFlat reports whether r begins as a flattened dump does.
func isFlat(r io.ReaderAt) bool {
	b := make([]byte, len(flatSignature))
	n, _ := r.ReadAt(b, 0)
	return n == len(b) && string(b) == flatSignature
}

// OpenFlat opens the flattened dump in the first size bytes of r: it walks the
// records' headers once, from the first to the end marker, and opens the plain
// form with open. It fails with a [*FormatError] where r is no flattened dump,
// where a record is none, or where the plain form is flattened again. What
// follows the end marker is not looked at.
//
// A file that ends before the end marker is a truncated dump of the records
// that it holds. makedumpfile -R, crash and libkdumpfile refuse such a file.
//
// It keeps 24 bytes for each run of records of the same size that follow one
// another in the plain form, as those of an ELF core do, and else for each
// record: less than one and a half bytes for each byte of the file, and no more
// than [maxRuns] runs, 48 MiB; where records overlap, up to four times that
// while it sorts out which ones win.
func OpenFlat(r io.ReaderAt, size int64, open func(io.ReaderAt, int64) (Core, error)) (*Flat, error) {
	if err := checkFlatHeader(r, size); err != nil {
		return nil, err
	}
	w := &flatWalk{r: r, size: size, at: flatHeaderSize}
	runs, err := w.walk()
	if err != nil {
		return nil, err
	}
	f := &Flat{Size: size, end: w.at, cut: w.cut, view: &flatView{r: r}}
	v := f.view
	if v.runs, v.shared, err = resolve(runs); err != nil {
		return nil, err
	}
	if n := len(v.runs); n > 0 {
		v.size = v.runs[n-1].end()
	}
	if err := v.checkHoles(size); err != nil {
		return nil, err
	}
	if isFlat(v) {
		return nil, errors.Wrap(plan.FormatErrorf(0, "signature", "a flattened dump within a flattened dump", "a dump in plain form"), "in the plain form")
	}
	if f.Core, err = open(v, v.size); err != nil {
		err = errors.Wrap(err, "in the plain form")
		if f.isCut() {
			err = &cutOff{err, cutFlat(f.end, "record", size, "a record, or the end marker")}
		}
		return nil, err
	}
	return f, nil
}

// cutOff is the error for the plain form of a dump whose file ends too early.
type cutOff struct{ plain, cut error }

func (e *cutOff) Error() string { return fmt.Sprintf("%v; %v", e.cut, e.plain) }
func (e *cutOff) Unwrap() error { return e.cut }

// isCut reports whether the file ends before its end marker.
func (f *Flat) isCut() bool { return f.Size-f.end < flatRecordHeader || f.cut > 0 }

// CutOff reports whether the file of a flattened dump ends before its end marker.
func CutOff(c Core) bool {
	f, ok := asFlat(c)
	return ok && f.isCut()
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
	end := max(f.Core.Claimed(), f.cut)
	if f.isCut() {
		end = max(end, f.PlainSize()+1)
	}
	return end
}

func checkFlatHeader(r io.ReaderAt, size int64) error {
	b := make([]byte, min(max(size, 0), int64(len(flatSignature)+16)))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return errors.Wrapf(plan.NoEOF(err), "offset %#x", n)
	}
	if !bytes.HasPrefix(b, []byte(flatSignature)) {
		found := fmt.Sprintf("%q", b[:min(len(b), len(flatSignature))])
		return &FormatError{Off: 0, What: "signature", Found: found, Want: fmt.Sprintf("%q", flatSignature), Err: ErrNotCore}
	}
	if size < flatHeaderSize {
		return cutFlat(0, "makedumpfile_header", size, fmt.Sprintf("%d bytes", flatHeaderSize))
	}
	b = b[len(flatSignature):]
	if typ := int64(binary.BigEndian.Uint64(b)); typ != flatType {
		return plan.FormatErrorf(16, "type", fmt.Sprint(typ), "%d", flatType)
	}
	if version := int64(binary.BigEndian.Uint64(b[8:])); version != flatVersion {
		return plan.FormatErrorf(24, "version", fmt.Sprint(version), "%d", flatVersion)
	}
	return nil
}

// cutFlat is the error for a file that ends too early.
func cutFlat(off int64, what string, size int64, want string) error {
	return plan.TruncatedErrorf(off, what, fmt.Sprintf("the end of the file at %#x", size), "%s", want)
}

// ReadAt reads the plain form. What no record holds reads as zeros, as in the
// holes that makedumpfile -R leaves.
func (f *Flat) ReadAt(p []byte, off int64) (int, error) { return f.view.ReadAt(p, off) }

// PlainSize returns the size of the plain form in bytes.
func (f *Flat) PlainSize() int64 { return f.view.size }

// Format implements [Core]: "flat-" and the plain form's.
func (f *Flat) Format() string { return "flat-" + f.Core.Format() }
