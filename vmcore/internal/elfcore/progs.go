package elfcore

import (
	"debug/elf"
	"fmt"
	"math"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// maxProgs bounds the program header table: 4 Mi entries, 64 times the most
// that was seen (65,801, a guest of 192 MB dumped by QEMU with -p).
const maxProgs = 1 << 22

// MaxUnused bounds the unused ones: as many as makedumpfile -E can leave of the
// largest table that was seen, and more.
const MaxUnused = 1 << 17

// progsAtOnce is how many program headers get their memory at once: 4 MB.
// Growing to as many in steps takes twice that.
const progsAtOnce = 75_000

// readProgs reads the program header table, and finds the one PT_NOTE, if there
// is one. It reads in pieces, so that memory grows with what the file holds,
// not with what the header claims.
func (c *ELF) readProgs() error {
	l := c.Layout
	if c.Phnum == 0 {
		return &plan.FormatError{Off: int64(l.EPhnum), What: "e_phnum", Found: "0", Want: "a PT_NOTE and PT_LOADs", Err: plan.ErrNotCore}
	}
	if c.Phnum > maxProgs {
		return plan.FormatErrorf(int64(l.EPhnum), "number of program headers", fmt.Sprint(c.Phnum), "at most %d", maxProgs)
	}
	table := c.progTable()
	if !table.Within(c.Size) {
		return plan.TruncatedErrorf(int64(l.ePhoff), "program header table", table.String(), "a table within the file's %#x bytes", c.Size)
	}
	c.Note = -1
	c.Progs = make([]elf.ProgHeader, 0, min(c.Phnum, progsAtOnce))
	perRead := max(1, (64<<10)/int(c.Phentsize))
	buf := make([]byte, min(perRead, int(c.Phnum))*int(c.Phentsize))
	for n := 0; n < int(c.Phnum); {
		b := buf[:min(perRead, int(c.Phnum)-n)*int(c.Phentsize)]
		if err := c.Read(b, c.ProgOff(n)); err != nil {
			return errors.Wrap(err, "program headers")
		}
		for ; len(b) > 0; b = b[c.Phentsize:] {
			if err := c.addProg(c.Prog(b)); err != nil {
				return err
			}
			n++
		}
	}
	return nil
}

// ProgOff returns the file offset of program header i.
func (c *ELF) ProgOff(i int) int64 {
	return int64(c.Phoff) + int64(i)*int64(c.Phentsize)
}

// Prog decodes the program header at the start of b.
func (h *Header) Prog(b []byte) elf.ProgHeader {
	l := h.Layout
	off := h.word(b, l.POff)
	if l.word == 4 && off == math.MaxUint32 {
		off = noOffset
	}
	p := elf.ProgHeader{
		Type:   elf.ProgType(h.Order.Uint32(b)),
		Flags:  elf.ProgFlag(h.Order.Uint32(b[l.pFlags:])),
		Off:    off,
		Vaddr:  h.word(b, l.pVaddr),
		Paddr:  h.word(b, l.pPaddr),
		Filesz: h.word(b, l.PFilesz),
		Memsz:  h.word(b, l.pMemsz),
		Align:  h.word(b, l.pAlign),
	}
	if p.Type == elf.PT_NULL {
		return unused(p)
	}
	return p
}

// held returns which bytes of the file the segment has by its header.
func held(p elf.ProgHeader) plan.Extent { return plan.Extent{Off: p.Off, Size: p.Filesz} }

// unused returns a PT_NULL program header with the fields that a reader
// follows. makedumpfile -E writes zeros where the disk was full, and for
// segments of /proc/kcore that are no memory. An unused header claims no bytes
// in the file, whatever its other fields say.
//
// crash does not look at p_type: it takes each header after the first for
// memory, so a header that once was a PT_LOAD keeps its p_offset, which moves
// along with the bytes it refers to.
func unused(p elf.ProgHeader) elf.ProgHeader {
	u := elf.ProgHeader{Type: elf.PT_NULL}
	if _, ok := held(p).End(); ok && p.Filesz > 0 && p.Filesz <= p.Memsz {
		u.Off = p.Off
	}
	return u
}

// addProg checks a program header and adds it to the table.
func (c *ELF) addProg(p elf.ProgHeader) error {
	i := len(c.Progs)
	switch p.Type {
	case elf.PT_NOTE:
		if err := c.checkEnd(i, p); err != nil {
			return err
		}
		if c.Note >= 0 {
			// makedumpfile takes the last, crash takes the second for memory.
			return plan.FormatErrorf(c.ProgOff(i), "program headers",
				fmt.Sprintf("two PT_NOTEs, phdr[%d] with %v and phdr[%d] with %v", c.Note, c.notesExtent(), i, held(p)),
				"one PT_NOTE")
		}
		c.Note = i
	case elf.PT_NULL:
		// A hole in a sparse file reads as unused headers and takes no room on
		// disk, but each one takes memory here.
		if c.unused++; c.unused > MaxUnused {
			return plan.FormatErrorf(c.ProgOff(i), "program headers", fmt.Sprintf("more than %d unused ones (PT_NULL)", MaxUnused), "PT_NOTE and PT_LOADs")
		}
	}
	c.Progs = append(c.Progs, p)
	return nil
}

// checkEnd makes sure that the end of segment i can be computed.
func (c *ELF) checkEnd(i int, p elf.ProgHeader) error {
	if _, ok := held(p).End(); !ok && p.Filesz > 0 {
		return plan.FormatErrorf(c.ProgOff(i), fmt.Sprintf("program header %d", i), held(p).String(), "p_offset + p_filesz below 2^63")
	}
	return nil
}

// checkEnds is checkEnd for all segments. If it fails for a PT_LOAD, the notes
// can be read, but nobody knows which bytes a change must spare and move along.
func (c *ELF) checkEnds() error {
	for i, p := range c.Progs {
		if err := c.checkEnd(i, p); err != nil {
			return err
		}
	}
	return nil
}

// hasPlace reports whether p_offset is a place in the file at all.
func hasPlace(p elf.ProgHeader) bool {
	return p.Off != noOffset && (p.Off != 0 || p.Filesz != 0)
}

// isMemory reports whether crash takes p for memory with a place in the file:
// a PT_LOAD, and an unused header with a p_offset too.
func isMemory(p elf.ProgHeader) bool {
	return (p.Type == elf.PT_LOAD || p.Type == elf.PT_NULL) && hasPlace(p)
}

// noOffset is the p_offset of a PT_LOAD without a place in the file in dumps
// that QEMU has filtered; makedumpfile writes 0 there.
const noOffset = math.MaxUint64
