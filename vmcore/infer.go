package vmcore

import (
	"bytes"
	"hash/maphash"
	"io"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// maxHeadRuns bounds the index of the records that are kept at a stream's head.
const maxHeadRuns = 1 << 16

// errNotYet: bytes that no record has held so far.
var errNotYet = errors.New("not among the records so far")

// A flatHead keeps the beginning of a flattened stream, record by record, and
// reads like its plain form, as far as that has come. Other bytes are
// errNotYet.
type flatHead struct {
	h     *head
	at    int64      // of the next record in the stream
	runs  []flat.Run // the records so far, in their order
	count int
	top   int64      // where the plain form ends so far
	view  *flat.View // of them; nil if another one has come
	whole bool       // all records, and the end marker, have come
	loose bool       // gaps read as zeros; what lies after the last byte is read from the stream
}

// plan reads records until the notes are known, and plans the copy.
func (p *flatHead) plan(edit Edit) (*flatStreamPlan, error) {
	b := make([]byte, flat.HeaderSize)
	if n, err := p.h.ReadAt(b, 0); n < len(b) {
		return nil, p.cut(err)
	}
	if err := flat.CheckHeader(bytes.NewReader(b), flat.HeaderSize); err != nil {
		return nil, err
	}
	p.at = flat.HeaderSize
	var c Core
	var bad error // what is wrong with the plain form so far
	for next := 1; c == nil; {
		if err := p.more(); err != nil {
			if bad != nil && !errors.Is(err, ErrTruncated) {
				return nil, errors.Wrap(bad, "in the plain form")
			}
			return nil, err
		}
		if p.count < next && !p.whole {
			continue
		}
		next = p.count + p.count/4 + 1 // sorting them every time would take long
		var err error
		c, err = p.open()
		switch {
		case err == nil:
		case p.whole:
			return nil, errors.Wrap(err, "in the plain form")
		case !errors.Is(err, errNotYet):
			bad = err // a later record may mend it
		}
	}
	sum, err := sumNotes(p, c)
	if err != nil {
		return nil, err
	}
	sp, err := edit(c)
	if err != nil {
		return nil, err
	}
	p.loose = true
	l, err := c.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	if p.whole && c.PlainSize() == plan.Endless { // small enough to know all of it
		if c, err = p.open(); err == nil {
			l, err = c.PlanCopy(sp)
		}
		if err != nil {
			return nil, errors.Wrap(err, "in the plain form")
		}
		if now, err := sumNotes(p, c); err != nil || now != sum {
			return nil, plan.OnePassErrorf(c.NotesOff(), "notes", "others in a later record", "each in one record")
		}
	}
	return &flatStreamPlan{c, sp, l, sum}, nil
}

// cut returns the error for a stream that cannot be read further.
func (p *flatHead) cut(err error) error {
	if errors.Is(err, io.EOF) {
		p.h.cut = true
		return cutStream(p.h.size)
	}
	return err
}

// more reads the next record, or the end marker.
func (p *flatHead) more() error {
	b := make([]byte, flat.RecordHeader)
	if n, err := p.h.ReadAt(b, p.at); n < len(b) {
		return p.cut(err)
	}
	off, size, err := flat.ParseRecord(b, p.at)
	if err != nil {
		return err
	}
	if size < 0 {
		p.whole = true
		return nil
	}
	body := p.at + flat.RecordHeader
	if _, err := p.h.ReadAt(b[:1], body+min(size, 2*plan.MaxHead)-1); err != nil {
		return p.cut(err)
	}
	if p.runs = flat.AppendRecord(p.runs, off, body, size); len(p.runs) > maxHeadRuns {
		return errors.Wrapf(plan.ErrOnePass, "the notes are not among the first %d records", maxHeadRuns)
	}
	p.at = body + size
	p.count++
	p.top = max(p.top, off+size)
	p.view = nil
	return nil
}

// plain returns the plain form so far.
func (p *flatHead) plain() (*flat.View, error) {
	if p.view == nil {
		runs, _, err := flat.Resolve(slices.Clone(p.runs))
		if err != nil {
			return nil, err
		}
		p.view = &flat.View{R: p.h, Runs: runs}
		if n := len(runs); n > 0 {
			p.view.Size = runs[n-1].End()
		}
	}
	return p.view, nil
}

// ReadAt reads the plain form.
func (p *flatHead) ReadAt(b []byte, off int64) (int, error) {
	for p.loose && !p.whole && p.top-off < int64(len(b)) {
		if err := p.more(); err != nil {
			return 0, err
		}
	}
	v, err := p.plain()
	if err != nil {
		return 0, err
	}
	if p.loose || p.whole {
		return v.ReadAt(b, off)
	}
	k := heldFrom(v.Runs, off, int64(len(b)))
	if n, err := v.ReadAt(b[:k], off); n < int(k) {
		return n, err
	}
	if k < int64(len(b)) {
		return int(k), errNotYet
	}
	return int(k), nil
}

// heldFrom returns how many of the n bytes from off on are in records without a
// gap.
func heldFrom(runs []flat.Run, off, n int64) int64 {
	at := off
	for at < off+n {
		_, k, held := flat.FindRun(runs, at)
		if !held {
			break
		}
		at += min(k, off+n-at)
	}
	return at - off
}

// open opens the plain form if headers and notes have come, or can be inferred.
func (p *flatHead) open() (Core, error) {
	v, err := p.plain()
	if err != nil {
		return nil, err
	}
	if flat.Is(v) {
		return nil, plan.FormatErrorf(0, "signature", "a flattened dump within a flattened dump", "a dump in plain form")
	}
	if p.whole {
		if err := v.CheckHoles(p.at); err != nil {
			return nil, err
		}
		return Open(p, v.Size)
	}
	c, err := Open(p, plan.Endless)
	if err != nil && !kdump.Is(v) {
		e, err := p.infer(v, err)
		if err != nil {
			return nil, err
		}
		return elfCore{e}, nil
	}
	if err != nil {
		return nil, err
	}
	if n := c.Notes().Size; heldFrom(v.Runs, c.NotesOff(), n) < n {
		return nil, errNotYet
	}
	if pages := pagesOf(c); pages != nil && (c.NotesOff() >= pages.Bitmaps || !p.inOrder(pages.Bitmap)) {
		return nil, errNotYet // only with all of it at hand
	}
	return c, nil
}

// inOrder reports whether the records so far of what lies from off on came in
// the order of the plain form.
func (p *flatHead) inOrder(off int64) bool {
	at := off
	for _, r := range p.runs {
		if r.End() <= off {
			continue
		}
		if max(r.Off, off) < at {
			return false
		}
		at = r.End()
	}
	return true
}

// infer opens an ELF core whose program headers have not come, or only zeros in
// their place, as makedumpfile -E writes it: the notes are a record directly
// after the table's place, and memory begins directly after them. bad is why
// the core cannot be opened as it is.
func (p *flatHead) infer(v *flat.View, bad error) (*elfcore.ELF, error) {
	if heldFrom(v.Runs, 0, int64(elfcore.Layout32.Ehsize)) < int64(elfcore.Layout32.Ehsize) {
		return nil, bad
	}
	h, err := elfcore.ReadHeader(v, v.Size)
	if err != nil {
		return nil, bad
	}
	table := plan.Extent{Off: h.Phoff, Size: h.Phnum * h.Phentsize}
	start, ok := table.End()
	if !ok || h.Shoff != 0 || h.Phnum == 0 || heldFrom(v.Runs, 0, int64(h.Layout.Ehsize)) < int64(h.Layout.Ehsize) {
		return nil, bad
	}
	if !errors.Is(bad, errNotYet) && !isBlank(v, table) {
		return nil, bad
	}
	i := slices.IndexFunc(p.runs, func(r flat.Run) bool { return r.Off == int64(start) })
	if i < 0 {
		return nil, bad
	}
	size := int64(p.runs[i].Size)
	memory := int64(start) + size
	if p.runs[i].N == 1 && !slices.ContainsFunc(p.runs, func(r flat.Run) bool { return r.Off == memory }) {
		return nil, bad
	}
	notes, err := elfnote.Parse(io.NewSectionReader(p, int64(start), size), size, h.Order)
	if err != nil || len(notes.Notes) == 0 || notes.Fill != size {
		return nil, bad
	}
	return elfcore.Infer(p, h, notes, int64(start)), nil
}

// isBlank reports whether bytes are zeros, as far as they are in records.
func isBlank(v *flat.View, e plan.Extent) bool {
	b := make([]byte, 4<<10)
	for off, end := int64(e.Off), min(int64(e.Off+e.Size), v.Size); off < end; off += int64(len(b)) {
		n, err := v.ReadAt(b[:min(int64(len(b)), end-off)], off)
		if err != nil || !physmem.AllZero(b[:n]) {
			return false
		}
	}
	return true
}

var sumSeed = maphash.MakeSeed()

// sumNotes returns a checksum of [smallNotes], by which to detect a later
// record that changes the notes.
func sumNotes(r io.ReaderAt, c Core) (uint64, error) {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	for _, e := range smallNotes(c) {
		if _, err := io.Copy(&h, io.NewSectionReader(r, int64(e.Off), int64(e.Size))); err != nil {
			return 0, err
		}
	}
	return h.Sum64(), nil
}

// smallNotes returns where the notes lie, but for descriptors that are too
// large for any edit to look at: device dumps of many MiB.
func smallNotes(c Core) (es []plan.Extent) {
	s := c.Notes()
	at := int64(0)
	add := func(end int64) { es = flat.AppendExtent(es, c.NotesOff()+at, c.NotesOff()+end) }
	for _, n := range s.Notes {
		if n.DescSize > elfnote.MaxBlob {
			add(n.DescOff)
			at = n.DescOff + n.DescSize
		}
	}
	add(s.Size)
	return es
}
