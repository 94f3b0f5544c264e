package vmcs

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

// tables are the field table and the published layouts, as text with their
// sources (layouts/README.md).
//
//go:embed layouts/*.tsv
var tables embed.FS

// table is a file of layouts/: rows of cells separated by tabs, and the lines
// "# KEY VALUE" before them.
type table struct {
	notes []Fact
	rows  []row
}

type row []string

// number gives cell i. The tables are part of the program and read whole by
// its tests, so a wrong one is a bug and panics.
func (r row) number(i int) int {
	n, err := strconv.ParseUint(r[i], 0, 16)
	if err != nil {
		panic(fmt.Sprintf("vmcs: table row %q: %v", r, err))
	}
	return int(n)
}

// readTable reads layouts/name, which exists.
func readTable(name string) (t table) {
	data, err := tables.ReadFile("layouts/" + name)
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if note, ok := strings.CutPrefix(line, "# "); ok {
			key, value, _ := strings.Cut(note, " ")
			t.notes = append(t.notes, Fact{key, value})
		} else {
			t.rows = append(t.rows, strings.Split(line, "\t"))
		}
	}
	return t
}
