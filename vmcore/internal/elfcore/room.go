package elfcore

import (
	"fmt"
	"slices"

	"vmcsnote/vmcore/internal/plan"
)

// Used implements vmcore.Core: everything in the file that something refers to,
// but for the notes: headers, tables, sections, and the bytes of every other
// segment.
func (c *ELF) Used() ([]plan.Extent, error) {
	u, err := c.tables()
	if err != nil {
		return nil, err
	}
	u = slices.Grow(u, len(c.Progs))
	for i, p := range c.Progs {
		if i != c.Note && p.Filesz > 0 {
			u = append(u, held(p))
		}
	}
	return u, nil
}

// tables returns where headers, tables and sections lie: all but segments.
func (c *ELF) tables() ([]plan.Extent, error) {
	table, err := c.sectionTable()
	if err != nil {
		return nil, err
	}
	sections, err := c.sections()
	if err != nil {
		return nil, err
	}
	own := append(c.Headers(), table)
	for _, s := range sections {
		own = append(own, s.Extent)
	}
	return own, nil
}

// Headers is where the ELF header and the program header table lie.
func (c *ELF) Headers() []plan.Extent {
	return []plan.Extent{{Off: 0, Size: c.Layout.Ehsize}, {Off: c.Phoff, Size: c.Phnum * c.Phentsize}}
}

// checkChange makes sure that the notes can be changed at all. If zeros stand
// between notes, no two readers see the same notes, and there is no right place
// for one more.
func (c *ELF) checkChange() error {
	if g := c.notes.Gaps; len(g) > 0 {
		return plan.FormatErrorf(c.NotesOff()+g[0].Off, "notes", "an all-zero note header with more after it", "a note, or zeros to the end of the segment")
	}
	return c.checkDisjoint()
}

// checkDisjoint makes sure that a change to the notes or to a table changes
// nothing else: each has its bytes for itself, and every segment's bytes are
// known. PT_LOADs may share theirs.
func (c *ELF) checkDisjoint() error {
	if err := c.checkEnds(); err != nil {
		return err
	}
	table, err := c.sectionTable()
	if err != nil {
		return err
	}
	notes := c.notesExtent()
	if notes.Size == 0 {
		if err := c.checkEmpty(notes, table); err != nil {
			return err
		}
	}
	own := append(c.Headers(), table, notes)
	names := []string{"ELF header", "program header table", "section header table", "PT_NOTE"}
	for i, e := range own {
		for j, f := range own[:i] {
			if e.Overlaps(f) {
				return plan.FormatErrorf(int64(e.Off), names[i], e.String(), "bytes apart from the %s (%v)", names[j], f)
			}
		}
	}
	for i, p := range c.Progs {
		e := held(p)
		for j, f := range own {
			if i != c.Note && e.Overlaps(f) {
				return plan.FormatErrorf(c.ProgOff(i), fmt.Sprintf("phdr[%d]", i), e.String(), "bytes apart from the %s (%v)", names[j], f)
			}
		}
	}
	return nil
}

// checkEmpty is checkDisjoint for an empty PT_NOTE: new notes go to its
// p_offset, which must not be inside of anything.
func (c *ELF) checkEmpty(notes, table plan.Extent) error {
	place := plan.Extent{Off: notes.Off, Size: 1}
	for _, e := range append(c.Headers(), table) {
		if e.Overlaps(place) {
			return plan.FormatErrorf(c.ProgOff(c.Note), "PT_NOTE", notes.String(), "a place apart from the %v", e)
		}
	}
	for i, p := range c.Progs { // memory may begin there: it moves on
		if e := held(p); i != c.Note && e.Overlaps(place) && e.Off < notes.Off {
			return plan.FormatErrorf(c.ProgOff(c.Note), "PT_NOTE", notes.String(), "a place apart from the %v", e)
		}
	}
	return nil
}

// slack returns the length of the room after the notes: bytes that are zero and
// that nothing refers to, at most limit. Bytes that equal will, which is about
// to be written there, count as zero: an injection that was killed before its
// switch to the new notes leaves such bytes.
//
// The room ends at the lowest p_offset, even that of a PT_LOAD without bytes in
// the file, or of an unused header: crash takes the lowest one that is not 0
// for the end of the headers, and reads notes only below it.
func (c *ELF) slack(limit int64, will []byte) (int64, error) {
	used, err := c.Used()
	if err != nil {
		return 0, err
	}
	notes := c.notesExtent()
	start := notes.Off + notes.Size
	stop := min(start+uint64(limit), uint64(c.Size))
	for _, e := range used {
		if end, ok := e.End(); !ok || end > start {
			stop = min(stop, max(e.Off, start))
		}
	}
	for _, p := range c.Progs {
		if isMemory(p) && p.Off >= start {
			stop = min(stop, p.Off)
		}
	}
	return plan.Zeros(c.R, c.Size, int64(start), int64(stop), will)
}
