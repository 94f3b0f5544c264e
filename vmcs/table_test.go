package vmcs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTablesArePacked: what the program carries is what lies in layouts/.
func TestTablesArePacked(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("layouts", "*.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var want []tableFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, tableFile{filepath.Base(path), string(text)})
	}
	if len(want) < 3 || !slices.Equal(tableFiles(), want) {
		t.Errorf("tables.zz is not layouts/*.tsv: run go generate ./vmcs")
	}
}
