package vmcs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Table returns the layout in the format of the tables in layouts/: a file with
// this text there makes it a built-in layout. Fields of unknown encodings and
// high halves without their field have no rows; notes name them.
func (l *Layout) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# revision_id %#02x", l.RevisionID)
	for _, id := range l.OtherIDs {
		fmt.Fprintf(&b, " %#02x", id)
	}
	fmt.Fprintf(&b, "\n# name %s\n", l.Name)
	for _, s := range l.Sources {
		fmt.Fprintf(&b, "# source %s\n", s)
	}
	for _, s := range l.Caveats {
		fmt.Fprintf(&b, "# note %s\n", s)
	}
	has := make(map[Encoding]bool)
	for _, e := range l.Entries {
		has[e.Encoding] = has[e.Encoding] || e.Known
	}
	var rows []uint64 // by encoding, with the entry's index
	for i, e := range l.Entries {
		switch {
		case e.Known && !e.Encoding.High():
			rows = append(rows, uint64(e.Encoding)<<32|uint64(i))
		case !e.Known || !has[e.Encoding&^1]:
			fmt.Fprintf(&b, "# note %s at %d, %d bytes: not in the field table, or a high half alone\n", e.Name, e.Offset, e.Width)
		}
	}
	slices.Sort(rows)
	for _, r := range rows {
		e := l.Entries[uint32(r)]
		fmt.Fprintf(&b, "%v\t%s\t%d\t%d\t%s\n", e.Encoding, e.Name, e.Offset, e.Width, e.flags(l.AccessRights))
	}
	return b.String()
}

// flags returns a table's flags for e.
func (e Entry) flags(r AccessRights) string {
	flags := e.Flags
	if form := [...]string{RightsRotated: "ar8", RightsPacked: "ar16", RightsPlain: ""}[r]; e.Encoding.Rights() && form != "" && !strings.HasPrefix(flags, form) {
		flags = strings.Trim(form+","+flags, ",")
	}
	return cmp.Or(flags, "-")
}
