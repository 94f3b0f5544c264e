package vmcs

import "slices"

// A layoutIndex finds the entries of most encodings at once: 100,000 pages may
// have to be weighed, each by some forty fields.
type layoutIndex [1 << 10]int16 // 1 + index in Layout.Entries

// slot is where e stands in an index; false for high halves and for encodings
// beyond those in use.
func (e Encoding) slot() (int, bool) {
	return int(e>>13&3<<8 | e>>10&3<<6 | e>>1&63), e.Valid() && !e.High() && e>>1&511 < 64
}

// clone returns a copy with an index, whose access rights can be settled without
// changing l.
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
