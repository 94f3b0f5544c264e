package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/linux"
)

// Every field that the packages read is in their bindings: there are as many as
// there are tags in their sources.
func TestBindings(t *testing.T) {
	for _, pkg := range []struct {
		dir      string
		bindings []linux.Binding
	}{
		{"../../../../linux", linux.Bindings()},
		{"..", kvm.Bindings()},
	} {
		files, err := filepath.Glob(filepath.Join(pkg.dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		tags, paths := 0, 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(string(b), "\n") {
				if code, _, _ := strings.Cut(line, "//"); strings.Contains(code, " `btf:\"") {
					tags++
				}
			}
		}
		counted := make(map[reflect.Type]bool) // several bindings can share a struct
		for _, b := range pkg.bindings {
			if typ := reflect.TypeOf(b.Fields); !counted[typ] {
				counted[typ] = true
				paths += len(b.Paths())
			}
		}
		if tags != paths || tags == 0 {
			t.Errorf("%s: %d tags, %d paths", pkg.dir, tags, paths)
		}
	}
}
