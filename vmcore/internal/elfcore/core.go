// Package elfcore reads and changes ELF cores: of machines, by the kernel,
// makedumpfile and QEMU, and of processes. It knows no other container.
package elfcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/physmap"
	"vmcsnote/vmcore/internal/plan"
)

// An ELF is an open ELF vmcore: an ET_CORE file with one PT_NOTE, and with a
// PT_LOAD for each range of physical memory. Its writers are the kernel
// (/proc/vmcore), makedumpfile -E and QEMU (dump-guest-memory).
type ELF struct {
	Header
	// Progs is the program header table, in file order. Of unused headers
	// (PT_NULL) it holds p_type, and p_offset where a reader follows it.
	Progs []elf.ProgHeader
	// Note is the index of the one PT_NOTE in Progs; readers want it to be 0.
	Note int
	// Size is the file's size in bytes.
	Size int64

	R      io.ReaderAt
	notes  *elfnote.Segment
	Phys   func() *physmap.Map
	unused int // number of PT_NULLs
}

// Open opens the core in the first size bytes of r: it reads the headers, and
// walks the notes.
func Open(r io.ReaderAt, size int64) (*ELF, error) {
	c, err := OpenTable(r, size)
	if err != nil {
		return nil, err
	}
	if c.Note < 0 {
		found := fmt.Sprintf("%d without a PT_NOTE", c.Phnum)
		return nil, &plan.FormatError{Off: int64(c.Phoff), What: "program headers", Found: found, Want: "one PT_NOTE", Err: ErrNoPTNote}
	}
	n, notes := c.Progs[c.Note], c.notesExtent()
	if n.Filesz > plan.MaxNotes {
		return nil, plan.FormatErrorf(c.ProgOff(c.Note), "p_filesz of the PT_NOTE", fmt.Sprintf("%#x", n.Filesz), "at most %#x", uint64(plan.MaxNotes))
	}
	if !notes.Within(size) {
		return nil, plan.TruncatedErrorf(c.ProgOff(c.Note), "PT_NOTE", notes.String(), "notes within the file's %#x bytes", size)
	}
	c.notes, err = elfnote.ParseAligned(io.NewSectionReader(r, int64(n.Off), int64(n.Filesz)), int64(n.Filesz), c.Order, n.Align)
	if err != nil {
		return nil, plan.Rebase(err, int64(n.Off))
	}
	return c, nil
}

// Infer returns a core that has an ELF header, notes at start, and memory
// directly after them. It serves for a stream whose program headers have not
// arrived.
func Infer(r io.ReaderAt, h *Header, notes *elfnote.Segment, start int64) *ELF {
	return &ELF{Header: *h, Size: plan.Endless, R: r, notes: notes, Phys: func() *physmap.Map { return &physmap.Map{} }, Progs: []elf.ProgHeader{
		{Type: elf.PT_NOTE, Off: uint64(start), Filesz: uint64(notes.Size), Memsz: uint64(notes.Size)},
		{Type: elf.PT_LOAD, Off: uint64(start + notes.Size), Filesz: 1},
	}}
}

// ErrNoPTNote: an ELF core has no PT_NOTE. [OpenTable] opens it.
var ErrNoPTNote = errors.New("no PT_NOTE")

// OpenTable reads the headers, whether there is a PT_NOTE or not.
func OpenTable(r io.ReaderAt, size int64) (*ELF, error) {
	h, err := ReadHeader(r, size)
	if err != nil {
		return nil, err
	}
	c := &ELF{Header: *h, Size: size, R: r}
	c.Phys = sync.OnceValue(c.MapPhys)
	return c, c.readProgs()
}

// MapPhys maps the PT_LOADs.
func (c *ELF) MapPhys() *physmap.Map { return physmap.New(c.R, c.Size, c.Progs) }

// ReadPhys implements [physmem.Memory].
func (c *ELF) ReadPhys(p []byte, addr uint64) (int, error) { return c.Phys().ReadPhys(p, addr) }

// Ranges implements [physmem.Memory].
func (c *ELF) Ranges() iter.Seq[physmem.Range] { return c.Phys().Ranges() }

// Data implements [physmem.Sparse], by the file's holes.
func (c *ELF) Data(r physmem.Range) iter.Seq[physmem.Range] { return c.Phys().Data(r) }

// Read is [plan.ReadFull] of the file.
func (c *ELF) Read(b []byte, off int64) error { return plan.ReadFull(c.R, b, off) }

// Notes implements vmcore.Core.
func (c *ELF) Notes() *elfnote.Segment { return c.notes }

// NotesOff implements vmcore.Core.
func (c *ELF) NotesOff() int64 { return int64(c.Progs[c.Note].Off) }

// notesExtent is where the notes lie in the file.
func (c *ELF) notesExtent() plan.Extent { return held(c.Progs[c.Note]) }

// Format implements vmcore.Core: "elf64", "elf32", with "-be" where the byte
// order is big-endian.
func (c *ELF) Format() string {
	s := "elf64"
	if c.Class == elf.ELFCLASS32 {
		s = "elf32"
	}
	if c.Order == binary.ByteOrder(binary.BigEndian) {
		s += "-be"
	}
	return s
}

// PlainSize implements vmcore.Core.
func (c *ELF) PlainSize() int64 { return c.Size }

// Incomplete implements vmcore.Core.
func (c *ELF) Incomplete() bool {
	return c.Flags&Incomplete != 0 && !c.Process()
}

// Claimed implements vmcore.Core: it returns the end of the last segment in the
// file, by the headers, or of the section headers and of those sections that
// are known.
func (c *ELF) Claimed() int64 { return c.claimed(-1, true) }

// claimed is Claimed without program header skip, and with the section headers
// only if table is set.
func (c *ELF) claimed(skip int, table bool) int64 {
	end := int64(0)
	claim := func(e plan.Extent) {
		if n, ok := e.End(); ok && e.Size > 0 {
			end = max(end, int64(n))
		}
	}
	for i, p := range c.Progs {
		if i != skip {
			claim(held(p))
		}
	}
	if table {
		claim(c.allSections())
	}
	sections, _ := c.sections() // those that cannot be read claim nothing
	for _, s := range sections {
		claim(s.Extent)
	}
	return end
}

// PlanInPlace implements vmcore.Core: by Slack, End, Split and Evict.
func (c *ELF) PlanInPlace(pl plan.Placement, sp elfnote.Splice) (*plan.InPlace, error) {
	switch pl {
	case plan.Slack:
		return c.PlanSlack(sp)
	case plan.End:
		return c.PlanEnd(sp)
	case plan.Split:
		return c.PlanSplit(sp)
	case plan.Evict:
		return c.PlanEvict(sp)
	}
	return nil, errors.Wrapf(plan.ErrNoPlace, "not in place by %s", pl)
}
