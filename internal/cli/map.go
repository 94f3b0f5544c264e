package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/vmcs"
)

// mapFlags ask for a map of the VMCS page.
type mapFlags struct {
	text bool
	svg  string
}

func (f *mapFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.text, "map", false, "draw where in the page the fields lie, and print nothing else")
	fs.StringVar(&f.svg, "svg", "", "write the map as a picture to `FILE`, a new one, or to standard output (-)")
}

func (f *mapFlags) given() bool { return f.text || f.svg != "" }

// draw draws the maps asked for.
func (f *mapFlags) draw(e *env, l *vmcs.Layout, title string) error {
	if f.text {
		if _, err := io.WriteString(e.stdout, drawing(l)); err != nil {
			return err
		}
	}
	if f.svg == "" {
		return nil
	}
	return e.writeNew(f.svg, svg(l, fmt.Sprintf("%s: VMCS revision id %#x, %s", title, l.RevisionID, plural(len(l.Entries), "field"))))
}

// layoutOf gives the layout in the VMCSINFO note of a core, a blob or a record.
func (e *env) layoutOf(ctx context.Context, path string) (*vmcs.Layout, error) {
	r, err := e.look(ctx, path)
	switch {
	case err != nil:
		return nil, err
	case r.layout != nil:
		return r.layout, nil
	case r.VMCSInfo != nil:
		return nil, errors.Errorf("no VMCS layout can be read out of the VMCSINFO note: %s", r.VMCSInfo.Warnings[0])
	}
	return nil, withHint{errors.Wrap(errNoNote, "no VMCSINFO note is in it"), "vmcsnote inject adds one; vmcsnote layouts NAME --map draws a layout that is built in"}
}

// fieldTable lists the layout's fields as they lie in the page.
func fieldTable(l *vmcs.Layout) string {
	var b strings.Builder
	b.WriteString("offset  width  encoding  group      field\n")
	for _, i := range inPage(l) {
		e := l.Entries[i]
		encoding := "-"
		if e.Known {
			encoding = e.Encoding.String()
		}
		fmt.Fprintf(&b, "%#-6x  %-5d  %-8s  %-9s  %s\n", e.Offset, e.Width, encoding, group(e), name(e.Name))
	}
	return b.String()
}

// inPage gives the indices of the layout's entries as they lie in the page,
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

// highHalves returns the indices of the entries that are the high half of a
// field whose bytes they are, by the index of the field: it is drawn with them.
// In some layouts the high half lies elsewhere, and is drawn there.
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

// drawnApart lists the entries that are drawn, as they lie in the page: all but
// those that are drawn with their fields.
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

// letters gives each byte of the page a letter, that of the group whose field
// it is in; a capital one begins a field.
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

// drawing is the layout as a map of the page, for a terminal.
func drawing(l *vmcs.Layout) string {
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
	return b.String() + mapLegend
}
