package vmcore

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// A flatView is the plain form of a flattened dump, read where it lies.
type flatView struct {
	r      io.ReaderAt
	runs   []run         // sorted by offset, disjoint
	shared []plan.Extent // what more than one record holds, sorted
	size   int64         // of the plain form
}

// ReadAt reads the plain form.
func (v *flatView) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.Errorf("offset %d is less than 0", off)
	}
	n := 0
	for n < len(p) && off < v.size {
		pos, k, held := findRun(v.runs, off)
		b := p[n:]
		b = b[:min(int64(len(b)), k, v.size-off)]
		if !held {
			clear(b)
		} else if m, err := v.r.ReadAt(b, pos); m < len(b) {
			return n + m, errors.Wrapf(plan.NoEOF(err), "offset %#x of the file", pos+int64(m))
		}
		n, off = n+len(b), off+int64(len(b))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// checkHoles makes sure that the plain form is no more than a file of size
// bytes can account for.
func (v *flatView) checkHoles(size int64) error {
	held := int64(0)
	for _, r := range v.runs {
		held += r.end() - r.off
	}
	if holes := v.size - held; holes > maxHoles && holes-maxHoles > size {
		last := v.runs[len(v.runs)-1]
		return plan.FormatErrorf(last.pos-flatRecordHeader, "records", fmt.Sprintf("%#x bytes that none of them holds", holes),
			"at most %#x in a file of %#x bytes", maxHoles, size)
	}
	return nil
}

// A flatWalk goes from record to record.
type flatWalk struct {
	r        io.ReaderAt
	size, at int64
	cut      int64 // where the plain form ends by a record that the file's end cuts off

	window  [4096]byte // of the file, from start on: small records share one read
	start   int64
	windowN int64
}

// walk returns all records as runs, in the order of the file. at is then where
// the end marker lies, or where the file ends without one.
func (w *flatWalk) walk() ([]run, error) {
	var runs []run
	for {
		if w.size-w.at < flatRecordHeader {
			w.at = w.size
			return runs, nil
		}
		off, size, err := w.header()
		switch {
		case err != nil:
			return nil, err
		case off == -1 && size == -1:
			return runs, nil
		}
		body := w.at + flatRecordHeader
		switch {
		case off < 0 || size <= 0:
			return nil, w.badRecord(off, size, "an offset of 0 or more and a size of 1 or more, or -1 for both")
		case size > maxRuns*maxChunk && size <= w.size-w.at: // of a sparse file
			return nil, errors.Wrapf(errTooManyRuns, "record at offset %#x", w.at)
		case off > math.MaxInt64-size:
			return nil, w.badRecord(off, size, "an end below 1<<63")
		case size > w.size-body:
			w.cut = off + size
			size = w.size - body
		}
		if runs = appendRecord(runs, off, body, size); len(runs) > maxRuns {
			return nil, errors.Wrapf(errTooManyRuns, "record at offset %#x", w.at)
		}
		w.at = body + size
	}
}

func (w *flatWalk) badRecord(off, size int64, want string) error {
	return plan.FormatErrorf(w.at, "record", fmt.Sprintf("offset %d, size %d", off, size), "%s", want)
}

// header reads the header of the record at at.
func (w *flatWalk) header() (off, size int64, err error) {
	if in := w.at - w.start; in+flatRecordHeader > w.windowN {
		w.start = w.at
		w.windowN = min(w.size-w.at, int64(len(w.window)))
		if n, err := w.r.ReadAt(w.window[:w.windowN], w.at); int64(n) < w.windowN {
			return 0, 0, errors.Wrapf(plan.NoEOF(err), "offset %#x", w.at+int64(n))
		}
	}
	b := w.window[w.at-w.start:]
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), nil
}
