package vmcs

import (
	"fmt"
	"slices"

	"github.com/pkg/errors"
)

// maxFields bounds the fields of a note: a page has room for fewer, even if
// all were two bytes wide.
const maxFields = PageSize / 2

// builder puts a layout together out of fields that may be anything.
type builder struct {
	Layout
	seen    map[string]int  // name: index in Entries
	refuted map[string]bool // names stated at two different offsets
	rights  rightsVotes
}

func newBuilder(form Form) *builder {
	return &builder{Layout: Layout{Form: form}, seen: make(map[string]int), refuted: make(map[string]bool)}
}

// warn notes what was wrong at a place of the source, such as "line 3".
//
//go:noinline
func (b *builder) warn(place, format string, args ...any) {
	b.Warnings = append(b.Warnings, place+": "+fmt.Sprintf(format, args...))
}

// place adds f at an offset, unless that is outside the page.
func (b *builder) place(place string, f Field, known bool, offset, width int) {
	e := Entry{Name: f.Name, Encoding: f.Encoding, Known: known, Offset: offset, Width: width}
	if known && f.Rights() && offset == PageSize-RightsPacked.Width() && b.AccessRights == RightsUnknown {
		b.AccessRights = RightsPacked // nothing else has room there
		e.Width = b.AccessRights.Width()
	}
	if offset < headerSize || e.end() > PageSize {
		b.warn(place, "%s at %#x, %d bytes: expected an offset from %#x to %#x", f.Name, offset, width, headerSize, PageSize-max(width, 1))
		return
	}
	if i, ok := b.seen[f.Name]; !ok {
		b.seen[f.Name] = len(b.Entries)
		b.Entries = append(b.Entries, e)
	} else if b.Entries[i].Offset != offset {
		b.refuted[f.Name] = true
		b.warn(place, "%s at %#x, and before at %#x: taken for unknown", f.Name, offset, b.Entries[i].Offset)
	}
}

// finish returns the layout, or an error if it has no field left. tried is the
// number of fields the source had.
func (b *builder) finish(tried int) (*Layout, error) {
	b.settleRights()
	b.Entries = slices.DeleteFunc(b.Entries, func(e Entry) bool { return b.refuted[e.Name] })
	if len(b.Entries) == 0 {
		if len(b.Warnings) == 0 {
			return nil, errors.Wrap(ErrLayout, "no fields")
		}
		return nil, errors.Wrapf(ErrLayout, "none of %d fields has an offset in the page: %s", tried, b.Warnings[0])
	}
	for _, p := range b.overlaps() {
		b.Warnings = append(b.Warnings, fmt.Sprintf("%s at %#x, %d bytes, and %s at %#x overlap: one of them is wrong",
			p[0].Name, p[0].Offset, p[0].Width, p[1].Name, p[1].Offset))
	}
	return &b.Layout, nil
}
