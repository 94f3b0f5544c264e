package vmcore

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// A KDump is an open kdump-compressed dump: memory page by page, each page
// compressed for itself. Its writers are makedumpfile (-c, -l, -p, -z) and QEMU
// (dump-guest-memory -z, -l, -s). In the file's order, in blocks of a page:
//
//	header       one block
//	sub header   SubHdrBlocks blocks, the notes in them after the sub header
//	bitmaps      of the pages there are, and of those in the dump: BitmapBlocks
//	descriptors  24 bytes for each page in the dump: where its data lies
//	page data
//	eraseinfo    what makedumpfile --config erased, text
//
// Descriptors, and the sub header's fields for notes, VMCOREINFO (which is one
// of the notes) and eraseinfo, hold offsets in the file: notes can lie anywhere.
type KDump struct {
	KDumpHeader
	// Size is the file's size in bytes.
	Size int64

	r     io.ReaderAt
	notes *elfnote.Segment
	index func() *bitmapIndex
	pages pageReaders
	cache pageCache
}

// OpenKDump is [Open] for a kdump-compressed dump alone, of header_version 0
// to 6. Bitmaps and descriptors are read when memory is asked for.
func OpenKDump(r io.ReaderAt, size int64) (*KDump, error) {
	h, err := readKDumpHeader(r, size)
	if err != nil {
		return nil, err
	}
	c := &KDump{KDumpHeader: *h, Size: size, r: r}
	c.index = sync.OnceValue(c.indexBitmap)
	// A dump without notes may get some, where others have them.
	if c.note.Size == 0 {
		c.note.Off = uint64(c.home())
	}
	if c.note.Size > plan.MaxNotes {
		return nil, plan.FormatErrorf(c.subOff()+c.abi.note+8, "size_note", fmt.Sprintf("%#x", c.note.Size), "at most %#x", uint64(plan.MaxNotes))
	}
	if !c.note.Within(size) {
		return nil, plan.TruncatedErrorf(c.subOff()+c.abi.note, "offset_note", c.note.String(), "notes within the file's %#x bytes", size)
	}
	off, n := int64(c.note.Off), int64(c.note.Size)
	if c.notes, err = elfnote.Parse(io.NewSectionReader(r, off, n), n, c.Order); err != nil {
		return nil, plan.Rebase(err, off)
	}
	return c, nil
}

// read fills b from file offset off, which the caller knows to be in the file.
func (c *KDump) read(b []byte, off int64) error {
	return plan.ReadFull(c.r, b, off)
}

// Notes implements [Core]. Dumps of header_version below 4 have none.
func (c *KDump) Notes() *elfnote.Segment { return c.notes }

// NotesOff implements [Core].
func (c *KDump) NotesOff() int64 { return int64(c.note.Off) }

// Format implements [Core]: "kdump", with "-32" for a 32-bit machine's, and
// "-be" where the byte order is big-endian.
func (c *KDump) Format() string {
	s := "kdump"
	if c.abi.word == 4 {
		s += "-32"
	}
	if c.Order == binary.ByteOrder(binary.BigEndian) {
		s += "-be"
	}
	return s
}

// PlainSize implements [Core].
func (c *KDump) PlainSize() int64 { return c.Size }

// Plain implements [Core].
func (c *KDump) Plain() Core { return c }

// Used implements [Core]: Verify looks at each page's descriptor itself.
func (c *KDump) Used() ([]plan.Extent, error) { return nil, nil }

// changeable makes sure that the notes can be changed at all, and that they
// share no bytes with what else the headers tell of.
func (c *KDump) changeable() error {
	if c.Version < notesVersion {
		return plan.FormatErrorf(8, "header_version", fmt.Sprint(c.Version), "%d or later: before that dumps had no notes", notesVersion)
	}
	fixed := []struct {
		name string
		plan.Extent
	}{
		{"the header", plan.Extent{Off: 0, Size: uint64(c.subOff() + c.abi.subSize)}},
		{"bitmaps", plan.Extent{Off: uint64(c.bitmapOff()), Size: uint64(c.descOff() - c.bitmapOff())}},
		{"eraseinfo", c.erase},
		{"VMCOREINFO", c.apart()},
	}
	for _, f := range fixed {
		if _, ok := f.End(); !ok && f.Size > 0 || c.note.Overlaps(f.Extent) {
			return plan.FormatErrorf(c.subOff()+c.abi.note, "offset_note", c.note.String(), "bytes apart from %s (%v)", f.name, f.Extent)
		}
	}
	return nil
}

// apart returns where VMCOREINFO lies if that is not, as in all dumps known,
// within the notes.
func (c *KDump) apart() plan.Extent {
	if c.info.Size > 0 && c.info.Off >= c.note.Off && c.info.Off-c.note.Off <= c.note.Size &&
		c.info.Size <= c.note.Size-(c.info.Off-c.note.Off) {
		return plan.Extent{}
	}
	return c.info
}
