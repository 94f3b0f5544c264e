package flat

import (
	"bytes"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// PlanInPlace turns a plan for the plain form into one for the file: each step
// is done where the records hold the bytes. It never adds a second record for a
// byte that has one: crash might read either.
//
// Bytes that no record holds get new records of zeros at the end of the file,
// before anything else is done: they are written after the end marker, where
// nothing reads them, with a new end marker after them; then one write puts the
// first one's header where the old end marker is. That changes nothing of the
// plain form but perhaps its size, and from there on every byte has its place.
//
// The error wraps [plan.ErrNoPlace] if the end marker, or what the plain form's
// headers need changed in one write, does not lie in one record and one sector,
// and if something to be changed is in more than one record.
//
// Bytes after the end marker may be lost even if the change is undone.
func (f *Records) PlanInPlace(p *plan.InPlace, headers []plan.Extent) (*plan.InPlace, error) {
	t := &planner{Records: f, plain: p, headers: headers, out: &plan.InPlace{Placement: p.Placement, Ready: p.Ready}}
	if err := t.checkShared(); err != nil {
		return nil, err
	}
	if err := t.checkParts(); err != nil {
		return nil, err
	}
	if err := t.makeRoom(); err != nil {
		return nil, err
	}
	for i, s := range p.Steps {
		if i == p.Commit {
			t.out.Commit = len(t.out.Steps)
		}
		if i == p.Tidy && i > 0 {
			t.out.Tidy = len(t.out.Steps)
		}
		if err := t.step(i, s); err != nil {
			return nil, err
		}
	}
	return t.out, nil
}

// A planner turns a plan for the plain form into one for the file.
type planner struct {
	*Records
	plain *plan.InPlace
	out   *plan.InPlace
	added []Run // records to come, sorted by offset

	headers []plan.Extent // of the plain form; nil if unknown
}

// checkShared makes sure that no step changes what more than one record holds.
func (t *planner) checkShared() error {
	for _, s := range t.plain.Steps {
		e := plan.Extent{Off: uint64(s.Off), Size: uint64(s.Len)}
		if s.Op == plan.OpSize || s.Op == plan.OpReserve {
			continue
		}
		if i := slices.IndexFunc(t.View.Shared, e.Overlaps); i >= 0 {
			return errors.Wrapf(plan.ErrNoPlace, "more than one record holds the %v of the plain form, and crash may read either", t.View.Shared[i])
		}
	}
	return nil
}

// maxParts bounds the steps of a plan: one for each record that it reads or
// writes. Records of makedumpfile have up to 64 KiB, and the first segment of
// an ELF core some 50 MB.
const maxParts = 4096

// checkParts makes sure that what the plan reads and writes does not lie in too
// many records: someone may have cut memory into records of a byte.
func (t *planner) checkParts() error {
	n := 0
	count := func(int64, int64, int64) { n++ }
	for _, s := range t.plain.Steps {
		switch s.Op {
		case plan.OpCopy:
			t.each(s.From, s.Len, count)
			t.each(s.Off, s.Len, count)
		case plan.OpWrite, plan.OpZero:
			t.each(s.Off, s.Len, count)
		}
	}
	if n > maxParts {
		return errors.Wrapf(plan.ErrNoPlace, "what has to move lies in %d records, expected at most %d", n, maxParts)
	}
	return nil
}

// find returns where in the file the byte at off of the plain form lies or will
// lie, and how many follow it in its record; or false, and how many bytes
// follow that no record holds.
func (t *planner) find(off int64) (pos, n int64, held bool) {
	pos, n, held = FindRun(t.View.Runs, off)
	if held {
		return pos, n, true
	}
	pos, m, held := FindRun(t.added, off)
	return pos, min(n, m), held
}

// each calls do for each part of n bytes from off on of the plain form: with
// where it begins there, where in the file, and its size. What no record holds
// has pos -1.
func (t *planner) each(off, n int64, do func(off, pos, n int64)) {
	for n > 0 {
		pos, k, held := t.find(off)
		if !held {
			pos = -1
		}
		k = min(k, n)
		do(off, pos, k)
		off, n = off+k, n-k
	}
}

// gaps returns what the plan writes though no record holds it.
func (t *planner) gaps() []plan.Extent {
	var all, merged []plan.Extent
	add := func(off, n int64) {
		t.each(off, n, func(off, pos, n int64) {
			if pos < 0 {
				all = append(all, plan.Extent{Off: uint64(off), Size: uint64(n)})
			}
		})
	}
	for _, s := range t.plain.Steps {
		switch {
		case s.Op == plan.OpWrite || s.Op == plan.OpCopy:
			add(s.Off, s.Len)
		case s.Op == plan.OpSize && s.Off > t.View.Size:
			add(s.Off-1, 1)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Off < all[j].Off })
	for _, e := range all {
		merged = AppendExtent(merged, int64(e.Off), int64(e.Off+e.Size))
	}
	return merged
}

// makeRoom plans records of zeros for the gaps.
func (t *planner) makeRoom() error {
	gaps := t.gaps()
	if len(gaps) == 0 {
		t.planUndo()
		return nil
	}
	if t.IsCut() {
		return errors.Wrapf(plan.ErrNoPlace, "the file ends at %#x without an end marker, and no record holds %v", t.Size, gaps[0])
	}
	if !oneSector(t.End, RecordHeader) {
		return errors.Wrapf(plan.ErrNoPlace, "the end marker at offset %#x of the file crosses a sector", t.End)
	}
	var headers []plan.Step
	pos := t.End
	for _, g := range gaps {
		b := make([]byte, RecordHeader)
		PutRecordHeader(b, int64(g.Off), int64(g.Size))
		headers = append(headers, plan.Step{Op: plan.OpWrite, Off: pos, Len: RecordHeader, Data: b, Why: "header of a new record"})
		t.added = AppendRecord(t.added, int64(g.Off), pos+RecordHeader, int64(g.Size))
		pos += RecordHeader + int64(g.Size)
	}
	first, last := t.End+RecordHeader, pos+RecordHeader
	t.out.Zero(first, min(last, t.Size)-first, "after the end marker")
	if last > t.Size {
		t.out.Add(plan.Step{Op: plan.OpSize, Off: last, Why: "room for new records at the end of the file"})
	}
	t.out.Add(plan.Step{Op: plan.OpReserve, Off: first, Len: last - first, Why: "their place"})
	t.out.Add(headers[1:]...)
	t.out.Write(pos, EndMarker, "a new end marker")
	t.out.Sync()
	headers[0].Why = "header of a new record, in place of the end marker"
	t.out.Add(headers[0])
	t.out.Sync()

	t.planUndo()
	t.out.Undo = append(t.out.Undo, plan.Step{Op: plan.OpWrite, Off: t.End, Len: RecordHeader, Data: EndMarker}, plan.Step{Op: plan.OpSync})
	if last > t.Size {
		t.out.Undo = append(t.out.Undo, plan.Step{Op: plan.OpSize, Off: t.Size})
	}
	return nil
}

// planUndo turns the steps that undo the plain plan into steps on the file, but
// for changes of the plain form's size.
func (t *planner) planUndo() {
	for _, s := range t.plain.Undo {
		if s.Op != plan.OpSize {
			t.out.Undo = append(t.out.Undo, t.parts(s)...)
		}
	}
}

// step plans step i of the plain plan, s.
func (t *planner) step(i int, s plan.Step) error {
	switch {
	case s.Op == plan.OpSync:
		t.out.Sync()
	case s.Op == plan.OpSize && s.Off < t.View.Size:
		return errors.Wrapf(plan.ErrNoPlace, "the plain form would end at %#x, and records cannot be cut", s.Off)
	case s.Op == plan.OpSize: // makeRoom has made the room
	case s.Op == plan.OpCopy:
		t.copy(s)
	case s.Op == plan.OpWrite && i >= t.plain.Commit && t.switches(s):
		return t.switchTo(i, s)
	default:
		t.out.Add(t.parts(s)...)
	}
	return nil
}

// parts returns a step as steps on the file, one for each record. A step writes
// nothing but zeros where no record is, and these need no record.
func (t *planner) parts(s plan.Step) (parts []plan.Step) {
	t.each(s.Off, s.Len, func(off, pos, n int64) {
		if pos < 0 {
			return
		}
		p := plan.Step{Op: s.Op, Off: pos, Len: n, Why: s.Why}
		if s.Op == plan.OpWrite {
			p.Data = s.Data[off-s.Off:][:n]
		}
		parts = append(parts, p)
	})
	return parts
}

// copy plans a copy. It writes zeros for what no record holds, and for holes in
// the file: bytes that once stood after the end marker may lie in the target.
func (t *planner) copy(s plan.Step) {
	t.each(s.From, s.Len, func(from, src, n int64) {
		t.each(s.Off+from-s.From, n, func(off, pos, n int64) {
			p := plan.Step{Op: plan.OpCopy, Off: pos, Len: n, From: src + off - (s.Off + from - s.From), Why: s.Why}
			if src < 0 {
				p = plan.Step{Op: plan.OpZero, Off: pos, Len: n, Why: s.Why}
			}
			t.out.Add(p)
		})
	})
}

// switches reports whether a write changes the plain form's headers, and so
// must be done whole or not at all. If the headers' place is unknown, any write
// may.
func (t *planner) switches(s plan.Step) bool {
	return t.headers == nil || slices.ContainsFunc(t.headers, plan.Extent{Off: uint64(s.Off), Size: uint64(s.Len)}.Overlaps)
}

// switchTo plans a write, step i of the plain plan, as one in one sector: from
// the first byte to the last that it changes.
func (t *planner) switchTo(i int, s plan.Step) error {
	old := make([]byte, s.Len)
	if n, err := t.ReadAt(old, s.Off); int64(n) < s.Len && s.Off+int64(n) < t.View.Size {
		return err
	}
	for _, w := range t.plain.Steps[:i] {
		if from, to := max(w.Off, s.Off), min(w.Off+w.Len, s.Off+s.Len); w.Op == plan.OpWrite && from < to {
			copy(old[from-s.Off:to-s.Off], w.Data[from-w.Off:])
		}
	}
	if bytes.Equal(old, s.Data) {
		return nil
	}
	first, last := 0, len(old)-1
	for old[first] == s.Data[first] {
		first++
	}
	for old[last] == s.Data[last] {
		last--
	}
	off, n := s.Off+int64(first), int64(last-first+1)
	pos, k, held := t.find(off)
	switch {
	case !held || k < n:
		return errors.Wrapf(plan.ErrNoPlace, "the header at offset %#x of the plain form is not in one record", s.Off)
	case !oneSector(pos, n):
		return errors.Wrapf(plan.ErrNoPlace, "the header at offset %#x of the plain form crosses a sector at offset %#x of the file", s.Off, pos)
	}
	t.out.Write(pos, s.Data[first:last+1], s.Why)
	return nil
}

// oneSector reports whether n bytes at pos are written whole or not at all.
func oneSector(pos, n int64) bool { return pos/plan.SectorSize == (pos+n-1)/plan.SectorSize }
