package flat

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// A View is the plain form of a flattened dump, read where it lies.
type View struct {
	R      io.ReaderAt
	Runs   []Run         // sorted by offset, disjoint
	Shared []plan.Extent // what more than one record holds, sorted
	Size   int64         // of the plain form
}

// ReadAt reads the plain form.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.Errorf("offset %d is less than 0", off)
	}
	n := 0
	for n < len(p) && off < v.Size {
		pos, k, held := FindRun(v.Runs, off)
		b := p[n:]
		b = b[:min(int64(len(b)), k, v.Size-off)]
		if !held {
			clear(b)
		} else if m, err := v.R.ReadAt(b, pos); m < len(b) {
			return n + m, errors.Wrapf(plan.NoEOF(err), "offset %#x of the file", pos+int64(m))
		}
		n, off = n+len(b), off+int64(len(b))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// bigRecord is the smallest record that Data looks for holes in.
const bigRecord = 256 << 10

// Data implements [plan.Data]: what no record holds is zeros, and so is a hole
// in a record.
func (v *View) Data(off, n int64) iter.Seq[plan.Extent] {
	return func(yield func(plan.Extent) bool) {
		for end := min(off+n, v.Size); off < end; {
			pos, k, held := FindRun(v.Runs, off)
			k = min(k, end-off)
			switch {
			case !held:
			case k < bigRecord:
				if !yield(plan.Extent{Off: uint64(off), Size: uint64(k)}) {
					return
				}
			default:
				for e := range plan.Data(v.R, pos, k) {
					e.Off += uint64(off - pos)
					if !yield(e) {
						return
					}
				}
			}
			off += k
		}
	}
}

// CheckHoles makes sure that the plain form is no more than a file of size
// bytes can account for.
func (v *View) CheckHoles(size int64) error {
	held := int64(0)
	for _, r := range v.Runs {
		held += r.End() - r.Off
	}
	if holes := v.Size - held; holes > MaxHoles && holes-MaxHoles > size {
		last := v.Runs[len(v.Runs)-1]
		return plan.FormatErrorf(last.pos-RecordHeader, "records", fmt.Sprintf("%#x bytes that none of them holds", holes),
			"at most %#x in a file of %#x bytes", MaxHoles, size)
	}
	return nil
}

// A walk goes from record to record.
type walk struct {
	r        io.ReaderAt
	size, at int64
	cut      int64 // where the plain form ends by a record that the file's end cuts off

	window  [4096]byte // of the file, from start on: small records share one read
	start   int64
	windowN int64
}

// walk returns all records as runs, in the order of the file. at is then where
// the end marker lies, or where the file ends without one.
func (w *walk) walk() ([]Run, error) {
	var runs []Run
	for {
		if w.size-w.at < RecordHeader {
			w.at = w.size
			return runs, nil
		}
		off, size, err := w.header()
		body := w.at + RecordHeader
		switch {
		case err != nil:
			return nil, err
		case size < 0:
			return runs, nil
		case size > MaxRuns*maxChunk && size <= w.size-w.at: // of a sparse file
			return nil, errors.Wrapf(ErrTooManyRecords, "record at offset %#x", w.at)
		case size > w.size-body:
			w.cut = off + size
			size = w.size - body
		}
		if runs = AppendRecord(runs, off, body, size); len(runs) > MaxRuns {
			return nil, errors.Wrapf(ErrTooManyRecords, "record at offset %#x", w.at)
		}
		w.at = body + size
	}
}

// header reads the header of the record at at.
func (w *walk) header() (off, size int64, err error) {
	if in := w.at - w.start; in+RecordHeader > w.windowN {
		w.start = w.at
		w.windowN = min(w.size-w.at, int64(len(w.window)))
		if n, err := w.r.ReadAt(w.window[:w.windowN], w.at); int64(n) < w.windowN {
			return 0, 0, errors.Wrapf(plan.NoEOF(err), "offset %#x", w.at+int64(n))
		}
	}
	return ParseRecord(w.window[w.at-w.start:], w.at)
}

// ParseRecord reads a record's header, which lies at offset at of the file. The
// end marker has a size below 0.
func ParseRecord(b []byte, at int64) (off, size int64, err error) {
	off, size = int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	want := ""
	switch {
	case off == -1 && size == -1:
	case off < 0 || size <= 0:
		want = "an offset of 0 or more and a size of 1 or more, or -1 for both"
	case off > math.MaxInt64-size:
		want = "an end below 1<<63"
	}
	if want != "" {
		err = plan.FormatErrorf(at, "record", fmt.Sprintf("offset %d, size %d", off, size), "%s", want)
	}
	return off, size, err
}
