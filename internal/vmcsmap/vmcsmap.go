// Package vmcsmap draws where in a VMCS page the fields of a layout lie: as a
// table, as a map for a terminal, and as a picture in SVG.
package vmcsmap

import (
	"fmt"
	"slices"
	"strings"

	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// Table lists the layout's fields as they lie in the page.
func Table(l *vmcs.Layout) string {
	var b strings.Builder
	b.WriteString("offset  width  encoding  group      field\n")
	for _, i := range inPage(l) {
		e := l.Entries[i]
		encoding := "-"
		if e.Known {
			encoding = e.Encoding.String()
		}
		fmt.Fprintf(&b, "%#-6x  %-5d  %-8s  %-9s  %s\n", e.Offset, e.Width, encoding, group(e), visible.Name(e.Name))
	}
	return b.String()
}

// inPage returns the indices of the layout's entries as they lie in the page,
// the wider of two at one offset first.
func inPage(l *vmcs.Layout) []int {
	keys := make([]uint64, len(l.Entries))
	for i, e := range l.Entries {
		keys[i] = uint64(e.Offset)<<40 | uint64(15-e.Width)<<32 | uint64(i)
	}
	slices.Sort(keys)
	order := make([]int, len(keys))
	for i, k := range keys {
		order[i] = int(uint32(k))
	}
	return order
}

// highHalves returns the indices of the entries that are the upper four bytes
// of another field, by the index of that field: the two are drawn as one. In
// some layouts the high half lies elsewhere, and is drawn there.
func highHalves(l *vmcs.Layout) map[int]int {
	fields := make(map[vmcs.Encoding]int)
	for i, e := range l.Entries {
		if e.Known && e.Width == 8 {
			fields[e.Encoding] = i
		}
	}
	highs := make(map[int]int)
	for i, e := range l.Entries {
		if !e.Known || !e.Encoding.High() {
			continue
		}
		if field, ok := fields[e.Encoding&^1]; ok && e.Offset == l.Entries[field].Offset+4 {
			highs[field] = i
		}
	}
	return highs
}

// drawnApart lists the entries as they lie in the page, without those that are
// drawn with their fields.
func drawnApart(l *vmcs.Layout, highs map[int]int) []int {
	with := make(map[int]bool)
	for _, high := range highs {
		with[high] = true
	}
	return slices.DeleteFunc(inPage(l), func(i int) bool { return with[i] })
}

// group names what a field is for.
func group(e vmcs.Entry) string {
	if !e.Known {
		return "unknown"
	}
	return e.Encoding.Kind().String()
}

const (
	free    = '.'
	overlap = '!'

	mapRow = 64 // bytes in a row of the map
)

// letters returns a letter for each byte of the page, that of the group of its
// field; a capital letter begins a field.
func letters(l *vmcs.Layout) *[vmcs.PageSize]byte {
	var page [vmcs.PageSize]byte
	for i := range page {
		page[i] = free
	}
	copy(page[:], "RrrrAaaa")
	for _, i := range drawnApart(l, highHalves(l)) {
		e := l.Entries[i]
		letter := group(e)[0]
		if letter == 'e' {
			letter = 'x' // exit information
		}
		for i := range max(e.Width, 1) {
			switch at := &page[e.Offset+i]; {
			case *at != free:
				*at = overlap
			case i == 0:
				*at = letter &^ 0x20
			default:
				*at = letter
			}
		}
	}
	return &page
}

// Text draws the layout as a map of the page, for a terminal.
func Text(l *vmcs.Layout) string {
	var b strings.Builder
	page := letters(l)
	skipped := false
	for at := 0; at < vmcs.PageSize; at += mapRow {
		row := string(page[at : at+mapRow])
		if strings.Trim(row, string(free)) == "" {
			if !skipped {
				b.WriteString("    *\n")
			}
			skipped = true
			continue
		}
		skipped = false
		fmt.Fprintf(&b, "%#04x  %s\n", at, row)
	}
	return b.String() + legend
}

// legend explains the map of a page.
const legend = `
64 bytes a row; a capital letter begins a field
G guest  H host  C control  X exit information  U a name that is not known
R revision id  A abort indicator  . no field  ! fields that overlap  * rows without
`
