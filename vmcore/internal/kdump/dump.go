// Package kdump reads and changes kdump-compressed dumps, as makedumpfile and
// QEMU write them. It knows no other container.
package kdump

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// A Dump is an open kdump-compressed dump: memory page by page, each page
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
// of the notes) and eraseinfo, hold offsets in the file: notes can lie
// anywhere.
type Dump struct {
	Header
	// Size is the file's size in bytes.
	Size int64

	R     io.ReaderAt
	notes *elfnote.Segment
	Index func() *bitmapIndex
	pages pageReaders
	cache pageCache
}

// Open opens the dump in the first size bytes of r, of header_version 0 to 6.
// Bitmaps and descriptors are read when memory is asked for.
func Open(r io.ReaderAt, size int64) (*Dump, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	c := &Dump{Header: *h, Size: size, R: r}
	c.Index = sync.OnceValue(c.indexBitmap)
	// A dump without notes may get some, where others have them.
	if c.Note.Size == 0 {
		c.Note.Off = uint64(c.Home())
	}
	if c.Note.Size > plan.MaxNotes {
		return nil, plan.FormatErrorf(c.SubOff()+c.ABI.Note+8, "size_note", fmt.Sprintf("%#x", c.Note.Size), "at most %#x", uint64(plan.MaxNotes))
	}
	if !c.Note.Within(size) {
		return nil, plan.TruncatedErrorf(c.SubOff()+c.ABI.Note, "offset_note", c.Note.String(), "notes within the file's %#x bytes", size)
	}
	off, n := int64(c.Note.Off), int64(c.Note.Size)
	if c.notes, err = elfnote.Parse(io.NewSectionReader(r, off, n), n, c.Order); err != nil {
		return nil, plan.Rebase(err, off)
	}
	return c, nil
}

// Read fills b from file offset off, which the caller knows to be in the file.
func (c *Dump) Read(b []byte, off int64) error {
	return plan.ReadFull(c.R, b, off)
}

// Notes implements vmcore.Core. Dumps of header_version below 4 have none.
func (c *Dump) Notes() *elfnote.Segment { return c.notes }

// NotesOff implements vmcore.Core.
func (c *Dump) NotesOff() int64 { return int64(c.Note.Off) }

// Format implements vmcore.Core: "kdump", with "-32" for a 32-bit machine's,
// and "-be" where the byte order is big-endian.
func (c *Dump) Format() string {
	s := "kdump"
	if c.ABI.word == 4 {
		s += "-32"
	}
	if c.Order == binary.ByteOrder(binary.BigEndian) {
		s += "-be"
	}
	return s
}

// PlainSize implements vmcore.Core.
func (c *Dump) PlainSize() int64 { return c.Size }

// Used implements vmcore.Core: Verify looks at each page's descriptor itself.
func (c *Dump) Used() ([]plan.Extent, error) { return nil, nil }

// changeable makes sure that the notes can be changed at all, and that they
// share no bytes with anything else that the headers locate.
func (c *Dump) changeable() error {
	if c.Version < NotesVersion {
		return plan.FormatErrorf(8, "header_version", fmt.Sprint(c.Version), "%d or later: before that dumps had no notes", NotesVersion)
	}
	fixed := []struct {
		name string
		plan.Extent
	}{
		{"the header", plan.Extent{Off: 0, Size: uint64(c.SubOff() + c.ABI.SubSize)}},
		{"bitmaps", plan.Extent{Off: uint64(c.BitmapOff()), Size: uint64(c.DescOff() - c.BitmapOff())}},
		{"eraseinfo", c.Erase},
		{"VMCOREINFO", c.apart()},
	}
	for _, f := range fixed {
		if _, ok := f.End(); !ok && f.Size > 0 || c.Note.Overlaps(f.Extent) {
			return plan.FormatErrorf(c.SubOff()+c.ABI.Note, "offset_note", c.Note.String(), "bytes apart from %s (%v)", f.name, f.Extent)
		}
	}
	return nil
}

// apart returns the place of VMCOREINFO if it is outside the notes. In all
// known dumps it is within.
func (c *Dump) apart() plan.Extent {
	if c.Info.Size > 0 && c.Info.Off >= c.Note.Off && c.Info.Off-c.Note.Off <= c.Note.Size &&
		c.Info.Size <= c.Note.Size-(c.Info.Off-c.Note.Off) {
		return plan.Extent{}
	}
	return c.Info
}
