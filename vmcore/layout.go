package vmcore

import (
	"cmp"
	"debug/elf"
	"fmt"
	"iter"
	"slices"
	"strings"

	"vmcsnote/elfnote"
)

// A Layout says what a changed copy of a core consists of, in the order of its
// bytes. It depends on the core and the change alone, so that every copy, clone
// and stream of the same core comes out the same on every machine.
//
// The notes stay where they are and grow into the zero bytes behind them. If
// there are too few, everything behind the notes shifts by as few whole pages
// as will do, see [ELF.granule]. Where notes shrink and thereby leave a page or
// more of zeros, such a shift must have brought them in, since no writer leaves
// a whole page of its own machine: all that shifts back, and removing a note
// undoes injecting it, byte for byte.
type Layout struct {
	// Shift is by how many bytes what stands behind the notes moves: whole
	// pages, less than 0 towards the front.
	Shift int64
	// Size is that of the copy, in bytes.
	Size int64

	splice elfnote.Splice // of a flattened dump: what is done to the notes
	pieces []piece
	end    int64 // where the original ends, by tables that have passed in a stream
}

// A piece is some bytes of the copy: literal ones, zeros, or bytes of the
// original, of which a table may need mending entry by entry. Or it stands for
// pieces that are known only once all before it has been read.
type piece struct {
	lit  []byte
	zero int64

	src, n int64 // original bytes; n may reach to the end of the stream
	entry  int64 // size of a table entry to be mended, else 0
	mend   func([]byte)

	later func() []piece
}

// all gives the pieces one by one, each when the one before has been dealt with.
func (l *Layout) all() iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for _, p := range l.pieces {
			ps := []piece{p}
			if p.later != nil {
				ps = p.later()
			}
			for _, p := range ps {
				if !yield(p) {
					return
				}
			}
		}
	}
}

func (p piece) size() int64 {
	return int64(len(p.lit)) + p.zero + p.n
}

// PlanCopy plans a copy of the core with the splice applied to its notes. It
// writes nothing. It fails with a [*FormatError] where tables and notes share
// bytes, or where offsets leave what the class can express.
func (c *ELF) PlanCopy(sp elfnote.Splice) (*Layout, error) {
	if err := c.checkChange(); err != nil {
		return nil, err
	}
	notes := c.notesExtent()
	start, end := int64(notes.off), int64(notes.off+notes.size)
	newEnd := end + sp.Grow()
	shift, err := c.shift(sp.Grow())
	if err != nil {
		return nil, err
	}
	if err := c.checkRoom(shift); err != nil {
		return nil, err
	}
	l := &Layout{Shift: shift, Size: endless}
	if c.Size != endless {
		l.Size = max(c.Size+shift, newEnd)
	}
	fixes, err := c.fixes(sp, shift)
	if err != nil {
		return nil, err
	}
	l.add(fixes, 0, start+sp.Off)
	l.pieces = append(l.pieces, piece{lit: sp.Ins})
	l.add(fixes, start+sp.Off+sp.Del, end)
	// From here on the copy's offset less shift is the original's.
	resume := max(end, newEnd-shift)
	l.pieces = append(l.pieces, piece{zero: resume + shift - newEnd})
	l.add(fixes, resume, c.Size)
	l.pieces = slices.DeleteFunc(l.pieces, func(p piece) bool { return p.size() == 0 })
	return l, nil
}

// shift returns by how much what stands behind the notes must move.
func (c *ELF) shift(grow int64) (int64, error) {
	page, err := c.granule()
	if err != nil {
		return 0, err
	}
	late := c.sectionsBehind()
	switch {
	case late && grow > 0:
		return roundUp(grow, page), nil
	case late && grow < 0 && c.Size == endless:
		return 0, formatErr(int64(c.layout.eShoff), "e_shoff", fmt.Sprintf("%#x", c.Shoff),
			"section headers before the notes: those of a stream tell too late what lies behind the notes; use a file")
	}
	zeros, err := c.slack(max(grow, 2*page), nil)
	if err != nil {
		return 0, err
	}
	switch {
	case grow > zeros:
		return roundUp(grow-zeros, page), nil
	case grow < 0 && late:
		return -min((zeros-grow)&^(page-1), roundUp(-grow, page)), nil
	case grow < 0 && zeros < page:
		return -((zeros - grow) &^ (page - 1)), nil
	}
	return 0, nil
}

// sectionsBehind reports whether section headers stand behind the notes: a
// stream cannot tell then whether the zeros behind the notes are a section's.
// So that a file gives the same copy, its notes never grow into such zeros
// either. Section header 0, which PN_XNUM needs, is of no section.
func (c *ELF) sectionsBehind() bool {
	return c.Shnum > 1 && c.Shoff >= uint64(c.NotesOff())
}

// checkRoom makes sure that what moves has an offset afterwards. With ELF32 a
// core of nearly 4 GiB cannot take another page.
func (c *ELF) checkRoom(shift int64) error {
	if shift <= 0 {
		return nil
	}
	room := c.maxOffset() - uint64(shift)
	for i, p := range c.Progs {
		e := extent{p.Off, p.Filesz}
		if end, ok := e.end(); p.Filesz > 0 && (!ok || end > room) {
			return formatErr(c.progOff(i), fmt.Sprintf("phdr[%d]", i), e.String(), "room for %#x bytes more below %#x", shift, c.maxOffset())
		}
	}
	for _, e := range []extent{{c.Phoff, c.Phnum * c.Phentsize}, {c.Shoff, c.Shnum * c.Shentsize}} {
		if end, ok := e.end(); !ok || end > room {
			return formatErr(0, "table", e.String(), "room for %#x bytes more below %#x", shift, c.maxOffset())
		}
	}
	return nil
}

// A fix is a table of the original and how its entries change.
type fix struct {
	extent
	entry int64
	mend  func([]byte)
}

// fixes returns the tables to be mended when the splice is applied to the notes
// and everything behind them moves by shift, in file order.
func (c *ELF) fixes(sp elfnote.Splice, shift int64) ([]fix, error) {
	l, notes, grow := c.layout, c.notesExtent(), sp.Grow()
	end := notes.off + notes.size
	moved := func(off uint64) uint64 {
		if off < end || off > c.maxOffset()-uint64(max(shift, 0)) {
			return off // no place in the file: all ones, or a lie
		}
		return off + uint64(shift)
	}
	mendProg := func(b []byte) {
		p := c.prog(b)
		if p.Type == elf.PT_NOTE {
			c.putNotes(b, p.Off, uint64(int64(p.Filesz)+grow))
			return
		}
		if off := moved(p.Off); off != p.Off { // else an unused header stays as it is
			c.putWord(b, l.pOff, off)
		}
	}
	note := fix{extent{uint64(c.progOff(c.Note)), c.Phentsize}, int64(c.Phentsize), mendProg}
	table, err := c.sectionTable()
	if err != nil {
		return nil, err
	}
	// gdb writes a section for the notes, note0, and eu-readelf goes by it.
	mendSection := func(b []byte) {
		h := c.sectionHeader(b)
		e := extent{h.word(b, l.shOffset), h.word(b, l.shSize)}
		note := elf.SectionType(h.Order.Uint32(b[shType:])) == elf.SHT_NOTE && e.off >= notes.off && e.within(int64(end))
		switch splice := notes.off + uint64(sp.Off); {
		case note && (e == notes || e.off < splice && e.off+e.size > splice):
			h.putWord(b, l.shSize, e.size+uint64(grow))
		case note && e.off >= splice+uint64(sp.Del):
			h.putWord(b, l.shOffset, e.off+uint64(grow)) // of a later note
		default:
			h.putWord(b, l.shOffset, moved(e.off))
		}
	}
	sections := fix{table, int64(c.Shentsize), mendSection}
	f := []fix{note, sections}
	if shift != 0 {
		f = []fix{
			{extent{0, l.ehsize}, int64(l.ehsize), func(b []byte) {
				c.putWord(b, l.ePhoff, moved(c.word(b, l.ePhoff)))
				c.putWord(b, l.eShoff, moved(c.word(b, l.eShoff)))
			}},
			{extent{c.Phoff, c.Phnum * c.Phentsize}, int64(c.Phentsize), mendProg},
			sections,
		}
	}
	slices.SortFunc(f, func(a, b fix) int { return cmp.Compare(a.off, b.off) })
	return f, nil
}

// putNotes writes the place and the size of the notes into the program header
// at the start of b. p_memsz grows and shrinks with p_filesz, and so stays equal
// or greater if it was; writers that leave it 0 get 0.
func (h *Header) putNotes(b []byte, off, size uint64) {
	l := h.layout
	memsz, filesz := h.word(b, l.pMemsz), h.word(b, l.pFilesz)
	if now := memsz - filesz + size; memsz >= filesz && now >= size && now <= h.maxOffset() {
		h.putWord(b, l.pMemsz, now)
	}
	h.putWord(b, l.pOff, off)
	h.putWord(b, l.pFilesz, size)
}

// add adds the original's bytes from off to end, and splits off the tables in
// them that want mending.
func (l *Layout) add(fixes []fix, off, end int64) {
	for _, f := range fixes {
		at := int64(f.off)
		if f.size == 0 || at < off || at >= end {
			continue
		}
		l.pieces = append(l.pieces,
			piece{src: off, n: at - off},
			piece{src: at, n: int64(f.size), entry: f.entry, mend: f.mend})
		off = at + int64(f.size)
	}
	l.pieces = append(l.pieces, piece{src: off, n: max(end-off, 0)})
}

// String lists the layout for --dry-run, a line each.
func (l *Layout) String() string {
	var b strings.Builder
	at := int64(0)
	for p := range l.all() {
		what := ""
		switch {
		case len(p.lit) > 0:
			what = "the new note"
		case p.zero > 0:
			what = "zeros, to the next whole page"
		case p.mend != nil:
			what = fmt.Sprintf("from %#x, offsets mended", p.src)
		default:
			what = fmt.Sprintf("from %#x, as it is", p.src)
		}
		fmt.Fprintf(&b, "%#x: %#x bytes, %s\n", at, p.size(), what)
		at += p.size()
	}
	return b.String()
}
