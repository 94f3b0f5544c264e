// Package faults carries plans out over a file that keeps a journal of what was
// done to it. From the journal it makes every file that could be found if the
// process had been killed after each single write, or if the power had failed:
// then what was written since the last sync may be there or not, in any order,
// sector by sector. It is for tests.
package faults

import (
	"bytes"
	"context"
	"io"
	"iter"

	"vmcsnote/internal/sparse"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// An Edit is one entry of a journal. A size of -1 is none.
type Edit struct {
	Off  int64
	Data []byte
	Size int64
	Sync bool
	Hole bool // punched, not written
}

// A Journal is a medium that only records what is done to it.
type Journal struct {
	Base  io.ReaderAt
	Size  int64
	Edits []Edit
	Fail  int // fails once, at the edit of that number; 0 for never
	Short int // bytes that are written all the same when it fails
}

// Now returns the file with all edits so far.
func (j *Journal) Now() *Version { return &Version{j.Base, j.Size, j.Edits} }

func (j *Journal) add(e Edit) error {
	if j.Fail > 0 && len(j.Edits) == j.Fail-1 {
		j.Fail = 0
		if e.Size < 0 && len(e.Data) > 0 {
			e.Data = e.Data[:min(j.Short, len(e.Data))]
			j.Edits = append(j.Edits, e)
		}
		return io.ErrShortWrite
	}
	j.Edits = append(j.Edits, e)
	return nil
}

// ReadAt reads the file as it is now.
func (j *Journal) ReadAt(p []byte, off int64) (int, error) { return j.Now().ReadAt(p, off) }

// Truncate records a new size.
func (j *Journal) Truncate(size int64) error { return j.add(Edit{Size: size}) }

// Sync records a sync.
func (j *Journal) Sync() error { return j.add(Edit{Size: -1, Sync: true}) }

// Reserve does nothing.
func (j *Journal) Reserve(off, n int64) error { return nil }

// WriteAt records a write.
func (j *Journal) WriteAt(p []byte, off int64) (int, error) {
	return len(p), j.add(Edit{Off: off, Data: bytes.Clone(p), Size: -1})
}

// Zero records a hole.
func (j *Journal) Zero(off, n int64) error {
	return j.add(Edit{Off: off, Data: make([]byte, n), Size: -1, Hole: true})
}

// CopyWithin records the writes of a copy.
func (j *Journal) CopyWithin(_ context.Context, s plan.Step, _ func(int64)) error {
	buf := make([]byte, min(s.Len, 64<<10))
	for done := int64(0); done < s.Len; {
		b := buf[:min(s.Len-done, int64(len(buf)))]
		if _, err := j.ReadAt(b, s.From+done); err != nil {
			return err
		}
		if !s.Thin || !physmem.AllZero(b) {
			if _, err := j.WriteAt(b, s.Off+done); err != nil {
				return err
			}
		}
		done += int64(len(b))
	}
	return nil
}

// A Version is a file with edits made to it.
type Version struct {
	Base  io.ReaderAt
	Size  int64
	Edits []Edit
}

// Len returns the file's size after all edits.
func (v *Version) Len() int64 {
	n := v.Size
	for _, e := range v.Edits {
		if e.Size >= 0 {
			n = e.Size
		}
		if len(e.Data) > 0 {
			n = max(n, e.Off+int64(len(e.Data)))
		}
	}
	return n
}

// ReadAt reads the file as the edits left it.
func (v *Version) ReadAt(p []byte, off int64) (int, error) {
	end := v.Len()
	n := int(max(min(int64(len(p)), end-off), 0))
	p = p[:n]
	clear(p)
	if k := min(int64(n), v.Size-off); k > 0 {
		if _, err := v.Base.ReadAt(p[:k], off); err != nil && err != io.EOF {
			return 0, err
		}
	}
	for _, e := range v.Edits {
		if e.Size >= 0 { // what lay after it is gone
			clear(p[min(max(e.Size-off, 0), int64(n)):])
		}
		from, to := max(e.Off, off), min(e.Off+int64(len(e.Data)), off+int64(n))
		if from < to {
			copy(p[from-off:to-off], e.Data[from-e.Off:])
		}
	}
	if n < cap(p) && off+int64(n) >= end {
		return n, io.EOF
	}
	return n, nil
}

// Data yields the parts of n bytes at off that may hold other bytes than zeros:
// what the file held there, and what was written.
func (v *Version) Data(off, n int64) iter.Seq[plan.Extent] {
	all := physmem.Range{Addr: uint64(off), Size: uint64(n)}
	var parts []physmem.Range
	for e := range Data(v.Base, off, min(n, v.Size-off)) {
		parts = append(parts, physmem.Range{Addr: e.Off, Size: e.Size})
	}
	for _, e := range v.Edits {
		if part := all.Intersect(physmem.Range{Addr: uint64(e.Off), Size: uint64(len(e.Data))}); part.Size > 0 {
			parts = append(parts, part)
		}
	}
	return func(yield func(plan.Extent) bool) {
		for _, r := range physmem.Union(parts) {
			if !yield(plan.Extent{Off: r.Addr, Size: r.Size}) {
				return
			}
		}
	}
}

// Data is [plan.Data], which knows the holes of a [sparse.Image], too.
func Data(r io.ReaderAt, off, n int64) iter.Seq[plan.Extent] {
	im, ok := r.(*sparse.Image)
	if !ok {
		return plan.Data(r, off, n)
	}
	return func(yield func(plan.Extent) bool) {
		for end := off + n; off < end; {
			var from int64
			if from, off = im.NextData(off, end); from < off && !yield(plan.Extent{Off: uint64(from), Size: uint64(off - from)}) {
				return
			}
		}
	}
}

// Sectors cuts an edit where sectors begin: a disk writes these whole. A hole
// may be punched in part, too.
func (e Edit) Sectors() []Edit {
	var parts []Edit
	unit := int64(plan.SectorSize)
	if e.Hole {
		unit = max(unit, plan.RoundUp(int64(len(e.Data))/4, plan.SectorSize))
	}
	for off, data := e.Off, e.Data; len(data) > 0; {
		n := min(int64(len(data)), unit-off%plan.SectorSize)
		parts = append(parts, Edit{Off: off, Data: data[:n], Size: -1})
		off, data = off+n, data[n:]
	}
	if e.Size >= 0 {
		parts = append(parts, Edit{Size: e.Size})
	}
	return parts
}
