package vmcs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Builtin returns copies of the published layouts, one for each table in
// layouts/, in the order of their file names. Their Entries are in order of
// encoding and without the high halves, which lie 4 bytes into their field.
func Builtin() []*Layout {
	return builtins(func(builtinTable) bool { return true })
}

// BuiltinFor returns the built-in layouts that a VMCS with this revision
// identifier may have, with it as their RevisionID. Those of real processors
// come first, but a revision identifier alone never tells which layout it is.
func BuiltinFor(revision uint32) []*Layout {
	layouts := builtins(func(t builtinTable) bool { return slices.Contains(t.ids, revision) })
	for _, l := range layouts {
		if i := slices.Index(l.OtherIDs, revision); i >= 0 {
			l.RevisionID, l.OtherIDs[i] = revision, l.RevisionID
		}
	}
	return layouts
}

// A builtinTable is a table in layouts/. It is parsed once, when it is needed.
type builtinTable struct {
	ids    []uint32 // revision identifiers, the usual one first
	layout func() *Layout
}

var builtinTables = sync.OnceValue(func() (tables []builtinTable) {
	for _, f := range tableFiles() {
		if !strings.HasPrefix(f.name, "fields") {
			parse := func() *Layout { return builtin(f.table()) }
			tables = append(tables, builtinTable{f.ids(), sync.OnceValue(parse)})
		}
	}
	return tables
})

// builtins returns copies of the layouts of the tables chosen.
func builtins(choose func(builtinTable) bool) (layouts []*Layout) {
	for _, t := range builtinTables() {
		if choose(t) {
			l := *t.layout()
			l.OtherIDs, l.Entries = slices.Clone(l.OtherIDs), slices.Clone(l.Entries)
			l.Sources, l.Caveats = slices.Clone(l.Sources), slices.Clone(l.Caveats)
			layouts = append(layouts, &l)
		}
	}
	return layouts
}

// builtinIDs returns the revision identifiers of the built-in layouts.
var builtinIDs = sync.OnceValue(func() map[uint32]bool {
	ids := make(map[uint32]bool)
	for _, t := range builtinTables() {
		for _, id := range t.ids {
			ids[id] = true
		}
	}
	return ids
})

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
		if e.Encoding.Rights() {
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

// ids returns the revision identifiers in the table's notes.
func (f tableFile) ids() []uint32 {
	_, rest, _ := strings.Cut(f.text, "# revision_id ")
	line, _, _ := strings.Cut(rest, "\n")
	return parseIDs(line)
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
