// Package learn finds out a layout of VMCSs that nobody has published. It takes
// pages, and the hypervisor's own copies of the fields' values: a field lies
// where each page has the value that the hypervisor wrote there.
//
// It assumes nothing about alignment or order. A field's place is claimed if it
// is the only one in the page that has the right value in every page, and if
// the values could hardly stand there by chance. Everything else of the layout
// stays unknown.
package learn

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"vmcsnote/vmcs"
)

// A Value is what a field holds in a page. It is never zero, which would prove
// nothing.
type Value struct {
	Field vmcs.Encoding
	Want  uint64
	// Ignore are bits that are not known.
	Ignore uint64
	// Sure means that every processor has the field, and that the hypervisor
	// writes it whenever it changes its own copy.
	Sure bool
	// Must means Sure, and that the value shows whether the page is older than
	// the hypervisor's copies: a page without the value is left out.
	Must bool
}

// A VMCS is a page and what is known of it.
type VMCS struct {
	Page   []byte // vmcs.PageSize bytes
	Values []Value
}

const (
	// first is where fields begin: after the revision identifier and the
	// VMX-abort indicator.
	first = 8
	// enough is the evidence in bits that a claim needs. For a field that is Sure
	// to be in the page enoughSure will do: the only place that fits is then the
	// field's, unless the processor stores the field in a form of its own.
	enough     = 20
	enoughSure = 16
	// minFields are the fewest fields that make a layout.
	minFields = 8
	// maxPages are looked at: a few decide.
	maxPages = 64
)

// Layout returns the pages' layout, with those fields whose places are certain;
// nil if there are not enough. It claims no field whose copies contradict the
// pages.
func Layout(all []VMCS) *vmcs.Layout {
	all = usable(all)
	if len(all) == 0 {
		return nil
	}
	l := &vmcs.Layout{Form: vmcs.FormLearnt, RevisionID: revision(all[0].Page)}
	known := gather(all, vmcs.RightsUnknown)
	aligned := aligns(claim(known, nil, false))
	claimed := claim(known, nil, aligned)
	// Access rights are stored in one of several forms: it is certain if in only
	// one form all known ones have a place.
	others, forms := claimed, 0
	for form := vmcs.RightsPlain; form <= vmcs.RightsPacked; form++ {
		rights := gather(all, form)
		if slices.ContainsFunc(rights, (*field).nowhere) {
			continue
		}
		if with := claim(known, rights, aligned); slices.ContainsFunc(with, func(f *field) bool { return f.Rights() }) {
			claimed, l.AccessRights = with, form
			forms++
		}
	}
	if forms > 1 {
		claimed, l.AccessRights = others, vmcs.RightsUnknown
	}
	if len(claimed) < minFields {
		return nil
	}
	for _, e := range vmcs.Fields() {
		for _, f := range claimed {
			if f.Encoding == e.Encoding {
				l.Entries = append(l.Entries, vmcs.Entry{Name: e.Name, Encoding: e.Encoding, Known: true, Offset: f.places[0], Width: f.width})
			}
		}
	}
	return l
}

func revision(page []byte) uint32 { return binary.LittleEndian.Uint32(page) & 0x7fffffff }

// usable returns the pages that have all values that they must have, of the
// revision identifier that the first of them has.
func usable(all []VMCS) (pages []VMCS) {
	for _, v := range all {
		if len(v.Page) != vmcs.PageSize || len(pages) == maxPages {
			continue
		}
		v.Page = append(v.Page[:vmcs.PageSize:vmcs.PageSize], 0, 0, 0, 0, 0, 0, 0, 0) // so that 8 bytes can be read anywhere
		must, lacks := false, false
		for _, value := range v.Values {
			if value.Must {
				must = true
				lacks = lacks || len(value.places(v.Page, value.Field.Width())) == 0
			}
		}
		if must && !lacks && (len(pages) == 0 || revision(v.Page) == revision(pages[0].Page)) {
			pages = append(pages, v)
		}
	}
	return pages
}

// fits reports whether a page has the value at an offset.
func (v *Value) fits(page []byte, offset, width int) bool {
	return (binary.LittleEndian.Uint64(page[offset:])^v.Want)&^v.Ignore<<(64-8*width) == 0
}

// places returns the offsets in the page that have the value.
//
//go:noinline
func (v *Value) places(page []byte, width int) (offsets []int) {
	for o := first; o+width <= vmcs.PageSize; o++ {
		if v.fits(page, o, width) {
			offsets = append(offsets, o)
		}
	}
	return offsets
}

// weight returns the evidence of a value that a page has at n places, in bits:
// those that tell it from other numbers or, if that is more, from what else the
// page has.
func (v *Value) weight(n, width int) int {
	known := v.Want &^ v.Ignore
	ones := ^known << (64 - 8*width) >> (64 - 8*width) // of an address in the kernel, say
	size := min(bits.Len64(known), bits.Len64(ones)) - bits.TrailingZeros64(known)
	if size <= 0 {
		return 0
	}
	return max(size, bits.Len(vmcs.PageSize/uint(n))-1)
}

// A field is a field whose place is being searched.
type field struct {
	vmcs.Encoding
	width    int
	places   []int // that are left
	evidence int
	sure     bool
	weighed  []uint64 // values
}

// keep leaves those places that fit a page.
func (f *field) keep(v *Value, page []byte) {
	f.places = slices.DeleteFunc(f.places, func(o int) bool { return !v.fits(page, o, f.width) })
}

// nowhere reports whether the field has no place left.
func (f *field) nowhere() bool { return len(f.places) == 0 }

// without returns the field with those places that overlap none of others and,
// if aligned is set, are aligned.
func (f *field) without(others []*field, aligned bool) *field {
	own := *f
	own.places = nil
	for _, o := range f.places {
		if !f.touches(o, others) && (!aligned || f.width < 4 || o%4 == 0) {
			own.places = append(own.places, o)
		}
	}
	return &own
}

// gather returns the fields that the pages have values of, with the places that
// fit all pages: the access rights alone, in a form, or all others.
func gather(all []VMCS, form vmcs.AccessRights) (fields []*field) {
	for _, v := range all {
		for _, value := range v.Values {
			width := value.Field.Width()
			if value.Field.Rights() != (form != vmcs.RightsUnknown) {
				continue
			}
			if value.Field.Rights() {
				value.Want, width = uint64(form.Encode(uint32(value.Want))), form.Width()
			}
			i := slices.IndexFunc(fields, func(f *field) bool { return f.Encoding == value.Field })
			if i < 0 {
				i = len(fields)
				fields = append(fields, &field{Encoding: value.Field, width: width, places: value.places(v.Page, width), sure: value.Sure})
			}
			f := fields[i]
			f.keep(&value, v.Page)
			// Bits that are not known are the same in all pages, as a rule.
			if known := value.Want &^ value.Ignore; !f.nowhere() && !slices.Contains(f.weighed, known) {
				f.weighed = append(f.weighed, known)
				f.evidence += value.weight(len(value.places(v.Page, width)), width)
			}
		}
	}
	return fields
}

// aligns reports whether the fields show that the processor aligns what is
// wider than 16 bits to 4 bytes.
func aligns(claimed []*field) bool {
	const many = 16
	wide := 0
	for _, f := range claimed {
		if f.width >= 4 {
			wide++
			if f.places[0]%4 != 0 {
				return false
			}
		}
	}
	return wide >= many
}

// claim returns the fields that have one place left and enough evidence for it.
// A claimed place is no place for other fields, which may leave them only one.
func claim(known, rights []*field, aligned bool) (claimed []*field) {
	var fields []*field
	for _, list := range [][]*field{known, rights} {
		for _, f := range list {
			if f.evidence < enough && !(f.sure && f.evidence >= enoughSure) {
				continue
			}
			fields = append(fields, f.without(nil, aligned))
		}
	}
	for {
		var now, rest, sound []*field
		for _, f := range fields {
			if len(f.places) == 1 {
				now = append(now, f)
			} else {
				rest = append(rest, f)
			}
		}
		for _, f := range now {
			if !f.touches(f.places[0], now) { // otherwise they contradict each other
				sound = append(sound, f)
			}
		}
		if len(sound) == 0 {
			return claimed
		}
		claimed = append(claimed, sound...)
		fields = fields[:0]
		for _, f := range rest {
			fields = append(fields, f.without(sound, false))
		}
	}
}

// touches reports whether the field would overlap one of others at an offset.
//
//go:noinline
func (f *field) touches(offset int, others []*field) bool {
	for _, g := range others {
		if g != f && offset < g.places[0]+g.width && g.places[0] < offset+f.width {
			return true
		}
	}
	return false
}
