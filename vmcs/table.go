package vmcs

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed layouts/*.tsv
var layoutFiles embed.FS

// A tableFile is a file of layouts/.
type tableFile struct{ name, text string }

// tableFiles returns the field table and the published layouts, in the order of
// the files' names.
func tableFiles() []tableFile {
	dir, err := layoutFiles.ReadDir("layouts")
	if err != nil {
		panic(err)
	}
	var files []tableFile
	for _, e := range dir {
		files = append(files, readFile(e.Name()))
	}
	return files
}

// readFile returns layouts/name, which exists.
func readFile(name string) tableFile {
	text, err := layoutFiles.ReadFile("layouts/" + name)
	if err != nil {
		panic(err)
	}
	return tableFile{name, string(text)}
}

// table is a file of layouts/: rows of cells separated by tabs, after lines
// "# KEY VALUE".
type table struct {
	notes []Fact
	rows  []row
}

type row []string

// number returns cell i. The tables are part of the program and read whole by
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
