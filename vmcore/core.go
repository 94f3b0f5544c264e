// Package vmcore opens Linux crash dumps and changes the notes in them.
//
// A dump is a container: it holds notes (registers of each CPU, VMCOREINFO)
// and physical memory. [Open] tells the containers apart and reads their
// headers; the [Core] it returns lists the notes ([Core.Notes]) and reads
// memory by physical address ([Core.ReadPhys]).
//
// A change to the notes is an [elfnote.Splice]. It is planned before anything
// is written, and a plan is a value that can be printed:
//
//   - [PlanInPlace] gives the [Step]s that change the file where it lies, in an
//     order such that at every moment, whatever dies, the file is the old core
//     or the new one. Package-level rules, and the readers that force them,
//     stand in placement.go.
//   - [PlanCopy] gives the [Layout] of a new file: the old one's bytes with the
//     notes enlarged where they are and all behind them shifted by whole pages.
//     The same layout serves a copy, a clone that shares the blocks of the
//     file system, and a stream.
//
// [File] does it to a file on disk: it locks, picks the cheapest way that is
// safe there, and carries it out. [Stream] does it to a stream.
//
// Everything read from a dump is taken for hostile. Offsets and sizes are added
// and compared in bounds.go only; nothing is allocated because a header says so.
package vmcore

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// A Core is an open ELF vmcore: an ET_CORE file with one PT_NOTE, and with a
// PT_LOAD for each range of physical memory. Its writers are the kernel
// (/proc/vmcore), makedumpfile -E and QEMU (dump-guest-memory).
//
// A Core reads from its file when asked; it is safe for concurrent use where
// the underlying reader is.
type Core struct {
	Header
	// Progs is the program header table, in file order.
	Progs []elf.ProgHeader
	// Note is the index of the one PT_NOTE in Progs; readers want it to be 0.
	Note int
	// Size is the file's size in bytes.
	Size int64

	r     io.ReaderAt
	notes *elfnote.Segment
	phys  func() *physMap
}

// Open reads the headers of the ELF vmcore in the first size bytes of r, and
// walks its notes. It fails with a [*FormatError] on what is not a core, with
// [ErrNotCore] in the chain where it is no ELF file at all or no ET_CORE one.
//
// A truncated core opens if its headers and notes are whole.
func Open(r io.ReaderAt, size int64) (*Core, error) {
	c, err := openHeaders(r, size)
	if err != nil {
		return nil, err
	}
	n := c.Progs[c.Note]
	notes := extent{n.Off, n.Filesz}
	if !notes.within(size) {
		return nil, formatErr(c.progOff(c.Note), "PT_NOTE", notes.String(), "notes within the file's %#x bytes", size)
	}
	c.notes, err = elfnote.Parse(io.NewSectionReader(r, int64(n.Off), int64(n.Filesz)), int64(n.Filesz), c.Order)
	if err != nil {
		return nil, rebase(err, int64(n.Off))
	}
	return c, nil
}

// openHeaders is Open without the notes: what a stream has to go by before
// they have arrived.
func openHeaders(r io.ReaderAt, size int64) (*Core, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	c := &Core{Header: *h, Size: size, r: r}
	c.phys = sync.OnceValue(c.mapPhys)
	if err := c.readProgs(); err != nil {
		return nil, err
	}
	return c, nil
}

// read fills b from file offset off. The file's end is [ErrChanged]: whoever
// calls has looked at the size.
func (c *Core) read(b []byte, off int64) error {
	n, err := c.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return errors.Wrapf(noEOF(err), "offset %#x", off+int64(n))
}

// Notes returns the notes. Their offsets count from [Core.NotesOff].
func (c *Core) Notes() *elfnote.Segment { return c.notes }

// NotesOff returns the file offset of the notes in bytes.
func (c *Core) NotesOff() int64 { return int64(c.Progs[c.Note].Off) }

// notesExtent is where the notes lie in the file.
func (c *Core) notesExtent() extent {
	n := c.Progs[c.Note]
	return extent{n.Off, n.Filesz}
}

// Format names the container for people and for --json: "elf64", "elf32",
// with "-be" where the byte order is big-endian.
func (c *Core) Format() string {
	s := "elf64"
	if c.Class == elf.ELFCLASS32 {
		s = "elf32"
	}
	if c.Order == binary.ByteOrder(binary.BigEndian) {
		s += "-be"
	}
	return s
}
