package vmcs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Builtin returns the published layouts, one for each table in layouts/, in the
// order of their file names, the caller's own. Their Entries are in order of
// encoding and without the high halves, which lie 4 bytes into their field.
func Builtin() []*Layout {
	var layouts []*Layout
	for _, f := range tableFiles() {
		if !strings.HasPrefix(f.name, "fields") {
			layouts = append(layouts, builtin(f.table()))
		}
	}
	return layouts
}

// BuiltinFor returns the built-in layouts that a VMCS with this revision
// identifier may have, with it as their RevisionID. Real processors' come
// first, but a revision identifier never settles which layout it is.
func BuiltinFor(revision uint32) []*Layout {
	layouts := slices.DeleteFunc(Builtin(), func(l *Layout) bool {
		return l.RevisionID != revision && !slices.Contains(l.OtherIDs, revision)
	})
	for _, l := range layouts {
		if i := slices.Index(l.OtherIDs, revision); i >= 0 {
			l.RevisionID, l.OtherIDs[i] = revision, l.RevisionID
		}
	}
	return layouts
}

// builtin makes a layout of a table with rows of encoding, name, offset, width
// and flags.
func builtin(t table) *Layout {
	l := &Layout{Form: FormBuiltin}
	for _, n := range t.notes {
		switch n.Key {
		case "revision_id":
			ids := parseIDs(n.Value)
			l.RevisionID, l.OtherIDs = ids[0], ids[1:]
		case "name":
			l.Name = n.Value
		case "source":
			l.Sources = append(l.Sources, n.Value)
		case "note":
			l.Caveats = append(l.Caveats, n.Value)
		}
	}
	for _, r := range t.rows {
		e := Entry{Encoding: Encoding(r.number(0)), Name: r[1], Known: true, Offset: r.number(2), Width: r.number(3)}
		if r[4] != "-" {
			e.Flags = r[4]
		}
		if e.Encoding.rights() {
			switch {
			case strings.HasPrefix(e.Flags, "ar8"):
				l.AccessRights = RightsRotated
			case strings.HasPrefix(e.Flags, "ar16"):
				l.AccessRights = RightsPacked
			default:
				l.AccessRights = RightsPlain
			}
		}
		l.Entries = append(l.Entries, e)
	}
	return l
}

// parseIDs reads the revision identifiers of a table, the usual one first.
func parseIDs(s string) (ids []uint32) {
	for id := range strings.FieldsSeq(s) {
		n, err := strconv.ParseUint(id, 0, 31)
		if err != nil {
			panic(fmt.Sprintf("vmcs: table revision id: %v", err))
		}
		ids = append(ids, uint32(n))
	}
	return ids
}
