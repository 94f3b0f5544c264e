package vmcs

import (
	"compress/zlib"
	_ "embed"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// packed is every table of layouts/ (layouts/README.md), compressed, since as
// text they would be a fortieth of the program.
//
//go:generate go run ./layouts
//go:embed tables.zz
var packed string

// A tableFile is a file of layouts/ as it stands.
type tableFile struct{ name, text string }

// tableFiles unpacks the field table and the published layouts, in the order
// of the files' names.
var tableFiles = sync.OnceValue(func() (files []tableFile) {
	z, err := zlib.NewReader(strings.NewReader(packed))
	if err != nil {
		panic(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	rest := string(all)
	for rest != "" {
		var f tableFile
		f.name, rest, _ = strings.Cut(rest, "\x00")
		f.text, rest, _ = strings.Cut(rest, "\x00")
		files = append(files, f)
	}
	return files
})

// table is what a file of layouts/ says: rows of cells separated by tabs, and
// the lines "# KEY VALUE" before them.
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

// table reads the file.
func (f tableFile) table() (t table) {
	for line := range strings.Lines(f.text) {
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

// readTable reads layouts/name, which exists.
func readTable(name string) table {
	for _, f := range tableFiles() {
		if f.name == name {
			return f.table()
		}
	}
	panic("vmcs: no table " + name)
}
