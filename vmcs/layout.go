package vmcs

import (
	"slices"
	"sort"
)

// Form is what a layout was read from.
type Form uint8

const (
	// FormCells is the VMCSINFO text of April 2012: FIELD(name)= and what
	// VMREAD returned from a page filled with 16-bit cells.
	FormCells Form = iota + 1
	// FormOffsets is the same text with the offset itself after the equals
	// sign, in hexadecimal.
	FormOffsets
	// FormRecords is the binary VMCSINFO of May 2012 (see [ParseNote]).
	FormRecords
	// FormDirectory is the sysfs directory of June 2012 and later (see
	// [ParseDir]).
	FormDirectory
	// FormBuiltin is a table built into the program (see [Builtin]).
	FormBuiltin
	// FormSaved is no layout of a processor: pages are made of what VMREAD
	// returned in the host (see [FindSaved]).
	FormSaved
	// FormLearnt was found out from pages, and what a hypervisor has written to
	// them.
	FormLearnt
)

var formNames = [...]string{"", "cells", "offsets", "records", "directory", "builtin", "saved", "learnt"}

// String names the form.
func (f Form) String() string { return formNames[f] }

// Layout says where the fields of a VMCS lie in its page.
type Layout struct {
	// RevisionID is the VMCS revision identifier, bits 30:0 of the page's
	// first word. It does not identify a layout: two may share it. 0 where
	// the source states none, which only FormDirectory can do.
	RevisionID uint32
	// OtherIDs are further revision identifiers of a built-in layout.
	OtherIDs []uint32
	// Name is a built-in layout's name, such as haswell-broadwell, or the file
	// that the caller has it from.
	Name string
	Form Form
	// AccessRights is how GUEST_*_AR_BYTES are stored, as far as the source
	// tells it.
	AccessRights AccessRights
	// Entries are the fields, each once, in the source's order; never empty.
	Entries []Entry
	// Facts are what a note's text states besides, in its order.
	Facts []Fact
	// Sources and Caveats tell where a built-in layout was published and
	// what is known to be doubtful about it.
	Sources, Caveats []string
	// Warnings say, a line each and with the place, what in the source was
	// dropped or is doubtful. At most a few thousand.
	Warnings []string

	index *layoutIndex // of Entries, nil where nobody has made one
}

// Entry is one field's place.
type Entry struct {
	// Name is Linux's name of the field; another where the note uses one that
	// is not in the field table; the encoding where there is no name.
	Name string
	// Encoding is valid where Known is true: 0 is a field's encoding too.
	Encoding Encoding
	Known    bool
	// Offset is in bytes from the page's start, 8 to PageSize-1.
	Offset int
	// Width is the bytes the field takes in the page: 2, 4 or 8, Offset+Width
	// being PageSize at most; 0 where the name is unknown and the note's form
	// does not tell. Access rights packed in 16 bits have 2; natural-width
	// fields located by a 32-bit kernel have 4.
	Width int
	// Flags are a built-in layout's doubts, separated by commas: "approx4",
	// only a table of 4-byte units has it; "derived", deduced, not
	// published; "ar8" and "ar16", access rights stored so.
	Flags string
}

// Fact is a line KEY=VALUE of a note's text.
type Fact struct{ Key, Value string }

// Lookup finds the entry called name; false where the layout has none.
func (l *Layout) Lookup(name string) (Entry, bool) {
	i := slices.IndexFunc(l.Entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return l.Entries[i], true
}

// SetAccessRights sets how access rights are stored, and the width of their
// entries, which depends on that.
func (l *Layout) SetAccessRights(r AccessRights) {
	l.AccessRights = r
	for i, e := range l.Entries {
		if e.Known && e.Encoding.Rights() {
			l.Entries[i].Width = r.Width()
		}
	}
}

// end is the first byte after e.
func (e Entry) end() int { return e.Offset + max(e.Width, 1) }

// highHalf reports whether h is the high half of e, which lies inside it.
func (e Entry) highHalf(h Entry) bool {
	return e.Known && h.Known && h.Encoding.High() && h.Encoding == e.Encoding|1 && h.Offset == e.Offset+4
}

// overlaps returns pairs of entries that share bytes, high halves aside: for
// each entry the one before it in the page that reaches furthest. It is empty
// exactly where nothing overlaps, and no longer than the entries.
func (l *Layout) overlaps() (pairs [][2]Entry) {
	order := slices.Clone(l.Entries)
	sort.SliceStable(order, func(i, j int) bool {
		a, b := order[i], order[j]
		return a.Offset < b.Offset || a.Offset == b.Offset && a.Width > b.Width
	})
	var furthest Entry
	for _, e := range order {
		if e.Offset < furthest.end() && !furthest.highHalf(e) {
			pairs = append(pairs, [2]Entry{furthest, e})
		}
		if e.end() > furthest.end() {
			furthest = e
		}
	}
	return pairs
}

// A layoutIndex finds the entries of most encodings at once: 100,000 pages may
// have to be weighed, each by some forty fields.
type layoutIndex [1 << 10]int16 // 1 + index in Layout.Entries

// slot returns e's place in an index; false for high halves and for encodings
// beyond those in use.
func (e Encoding) slot() (int, bool) {
	return int(e>>13&3<<8 | e>>10&3<<6 | e>>1&63), e.Valid() && !e.High() && e>>1&511 < 64
}

// clone returns a copy with an index, whose access rights can be settled
// without changing l.
func (l *Layout) clone() *Layout {
	c := *l
	c.Entries = slices.Clone(l.Entries)
	c.index = new(layoutIndex)
	for i, e := range c.Entries {
		if slot, ok := e.Encoding.slot(); ok && e.Known && i < 1<<15-1 {
			c.index[slot] = int16(i + 1)
		}
	}
	return &c
}

// find returns the entry with encoding e, nil where there is none.
func (l *Layout) find(e Encoding) *Entry {
	if slot, ok := e.slot(); ok && l.index != nil {
		if i := int(l.index[slot]); i == 0 {
			return nil
		} else if i <= len(l.Entries) && l.Entries[i-1].Encoding == e {
			return &l.Entries[i-1]
		}
	}
	for i := range l.Entries {
		if p := &l.Entries[i]; p.Known && p.Encoding == e {
			return p
		}
	}
	return nil
}
