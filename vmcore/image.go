package vmcore

import (
	"debug/elf"
	"encoding/binary"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/lime"
	"vmcsnote/vmcore/internal/physmap"
	"vmcsnote/vmcore/internal/plan"
)

// errNoNotes is returned for a change to an image of memory: it has no place
// for notes.
var errNoNotes = errors.New("an image of memory has no notes")

// An image is memory in a form that has no notes: LiME's, AVML's, raw, and an
// ELF file without a PT_NOTE. It can be read, but not changed.
type image struct {
	memory
	// Size is the file's size in bytes.
	Size int64

	format string
	end    int64 // where the file ends by its headers
	notes  *elfnote.Segment
}

// memory is what an image holds.
type memory interface {
	physmem.Memory
	physmem.Sparse
}

func newImage(format string, m memory, size, end int64, order binary.ByteOrder) *image {
	return &image{m, size, format, end, &elfnote.Segment{Order: order, Align: 4}}
}

// OpenMemory is [Open] for callers that need only memory: it opens images, too.
func OpenMemory(r io.ReaderAt, size int64) (Core, error) {
	switch Identify(r) {
	case KindLiME, KindAVML:
		return openLiME(r, size)
	}
	c, err := Open(r, size)
	if err == nil || !errors.Is(err, ErrNoPTNote) {
		return c, err
	}
	e, err := elfcore.OpenTable(r, size)
	if err != nil {
		return nil, err
	}
	return newImage(e.Format()+"-without-notes", e, size, e.Claimed(), e.Order), nil
}

func openLiME(r io.ReaderAt, size int64) (Core, error) {
	m, err := lime.Open(r, size)
	if err != nil {
		return nil, err
	}
	return newImage(m.Format, m, size, m.End, binary.LittleEndian), nil
}

// OpenRaw opens raw physical memory from address 0 on. Nothing in such a file
// shows what it is, so the caller must know.
func OpenRaw(r io.ReaderAt, size int64) (Core, error) {
	m := physmap.New(r, size, []elf.ProgHeader{{Type: elf.PT_LOAD, Filesz: uint64(size), Memsz: uint64(size)}})
	return newImage("raw", m, size, size, binary.LittleEndian), nil
}

// Format implements [Core]: "lime", "avml", "raw", or the ELF format with
// "-without-notes".
func (i *image) Format() string { return i.format }

// Notes implements [Core]: there are none.
func (i *image) Notes() *elfnote.Segment { return i.notes }

// NotesOff implements [Core].
func (i *image) NotesOff() int64 { return 0 }

// Incomplete implements [Core]: images have no mark for it.
func (i *image) Incomplete() bool { return false }

// Verify implements [Core]: nobody reads notes out of an image.
func (i *image) Verify() []Finding { return nil }

// PlanCopy implements [Core]: it fails.
func (i *image) PlanCopy(elfnote.Splice) (*Layout, error) { return nil, errNoNotes }

// PlanInPlace implements [Core]: it fails.
func (i *image) PlanInPlace(Placement, elfnote.Splice) (*InPlace, error) { return nil, errNoNotes }

// PlainSize implements [Core].
func (i *image) PlainSize() int64 { return i.Size }

// Plain implements [Core]: an image is its own plain form.
func (i *image) Plain() Core { return i }

// Claimed implements [Core].
func (i *image) Claimed() int64 { return i.end }

// Used implements [Core]: nothing is changed in place, so nothing is listed.
func (i *image) Used() ([]plan.Extent, error) { return nil, nil }
