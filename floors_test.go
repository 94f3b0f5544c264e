// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	architecture = "doc/architecture.md"
	module       = "vmcsnote"
)

// imports returns what each package below root imports outside its tests, for
// any platform. Names of this module's packages have no "vmcsnote/" in front;
// the package in root itself is ".".
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	pkgs := map[string][]string{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(root, name, d.Name())
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if pkgs[pkg] == nil {
			pkgs[pkg] = []string{} // even if it imports nothing
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imported = strings.TrimPrefix(imported, module+"/")
			if !slices.Contains(pkgs[pkg], imported) {
				pkgs[pkg] = append(pkgs[pkg], imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// skip returns fs.SkipDir for directories that ./... leaves out.
func skip(root, name, base string) error {
	if name == root {
		return nil
	}
	if base == "testdata" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir // a module of its own
	}
	return nil
}

var quoted = regexp.MustCompile("`([^`]+)`")

// A row is a line of a table whose first cell is a name in backticks.
type row struct {
	name  string
	cells [][]string // of each further cell the names in backticks
}

// rows returns the rows of the tables under a heading, in their order.
func rows(doc, heading string) ([][]row, bool) {
	_, doc, ok := strings.Cut(doc, "\n## "+heading+"\n")
	doc, _, _ = strings.Cut(doc, "\n## ")
	var tables [][]row
	in := false
	for line := range strings.Lines(doc) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := quoted.FindStringSubmatch(cells[0])
		switch {
		case line[0] != '|':
			in = false
			continue
		case !in:
			in = true
			tables = append(tables, nil)
		}
		if name == nil {
			continue // the table's head
		}
		r := row{name: name[1]}
		for _, c := range cells[1:] {
			var names []string
			for _, m := range quoted.FindAllStringSubmatch(c, -1) {
				names = append(names, m[1])
			}
			r.cells = append(r.cells, names)
		}
		last := len(tables) - 1
		tables[last] = append(tables[last], r)
	}
	return tables, ok && len(tables) > 0
}

// floors returns the complaints about packages that do not keep the order of
// the rows, or know what their row forbids.
func floors(pkgs map[string][]string, order []row) []string {
	var bad []string
	floor := map[string]int{}
	for i, r := range order {
		if _, twice := floor[r.name]; twice {
			bad = append(bad, r.name+" has two rows")
		}
		floor[r.name] = i
		if _, ok := pkgs[r.name]; !ok {
			bad = append(bad, r.name+" has a row, but is no package")
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(pkgs)) {
		at, ok := floor[pkg]
		if !ok {
			bad = append(bad, pkg+" has no row")
			continue
		}
		for _, imported := range pkgs[pkg] {
			if to, ok := floor[imported]; ok && to <= at {
				bad = append(bad, pkg+" imports "+imported+", which is not below it")
			}
		}
		known := reach(pkgs, pkg)
		for _, not := range order[at].cells[1] {
			if _, ok := pkgs[not]; !ok {
				bad = append(bad, pkg+" must not know "+not+", which is no package")
			}
			for _, k := range known {
				if k == not || strings.HasPrefix(k, not+"/") {
					bad = append(bad, pkg+" knows "+k)
				}
			}
		}
	}
	return bad
}

// reach returns all that a package imports, itself or through others, sorted.
func reach(pkgs map[string][]string, pkg string) []string {
	seen := map[string]bool{}
	next := []string{pkg}
	for len(next) > 0 {
		p := next[0]
		next = next[1:]
		for _, imported := range pkgs[p] {
			if !seen[imported] {
				seen[imported] = true
				next = append(next, imported)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// links returns the complaints about packages that import a module and are not
// in its row, and the other way round.
func links(pkgs map[string][]string, shipped map[string]bool, modules []row) []string {
	var bad []string
	by := map[string][]string{}
	for _, pkg := range slices.Sorted(maps.Keys(pkgs)) {
		for _, imported := range pkgs[pkg] {
			first, _, _ := strings.Cut(imported, "/")
			if !shipped[pkg] || !strings.Contains(first, ".") {
				continue // the standard library has no dot, neither has this module
			}
			i := slices.IndexFunc(modules, func(r row) bool { return imported == r.name || strings.HasPrefix(imported, r.name+"/") })
			if i < 0 {
				bad = append(bad, pkg+" imports "+imported+", which has no row")
				continue
			}
			if name := modules[i].name; !slices.Contains(by[name], pkg) {
				by[name] = append(by[name], pkg)
			}
		}
	}
	for _, m := range modules {
		want := slices.Sorted(slices.Values(m.cells[0]))
		switch {
		case len(by[m.name]) == 0:
			bad = append(bad, m.name+" has a row, but nothing imports it")
		case len(want) > 0 && !slices.Equal(want, by[m.name]):
			bad = append(bad, m.name+" is imported by "+strings.Join(by[m.name], ", "))
		}
	}
	return bad
}

// TestArchitecture compares doc/architecture.md with the source: imports run
// downwards, every package has a row, and each linked module says who needs it.
func TestArchitecture(t *testing.T) {
	b, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	tables, ok := rows(string(b), "Floors")
	if !ok || len(tables) != 2 {
		t.Fatalf("%s: %d tables under Floors, expected one of what is shipped and one for developers", architecture, len(tables))
	}
	modules, ok := rows(string(b), "Modules that are linked")
	if !ok || len(modules) != 1 {
		t.Fatalf("%s: %d tables of modules, expected one", architecture, len(modules))
	}
	pkgs := imports(t, ".")
	shipped := map[string]bool{}
	for _, r := range tables[0] {
		shipped[r.name] = true
	}
	// The rows for developers come before all others.
	bad := append(floors(pkgs, slices.Concat(tables[1], tables[0])), links(pkgs, shipped, modules[0])...)
	for _, b := range bad {
		t.Errorf("%s: %s", architecture, b)
	}
}

// TestArchitectureFaults shows what TestArchitecture notices.
func TestArchitectureFaults(t *testing.T) {
	const doc = "\n## Floors\n\n| package | holds | must not know |\n|---|---|---|\n| `top` | t | `low` |\n| `mid/a` | a | `mid/b` |\n| `mid/b` | b | |\n| `low` | l | |\n\n## Next\n\n| `no` | | |\n"
	const mods = "\n## Modules\n\n| module | by |\n|---|---|\n| `x.org/m` | `low` |\n"
	sound := func() map[string][]string {
		return map[string][]string{"top": {"fmt", "mid/a"}, "mid/a": {}, "mid/b": {"low"}, "low": {"x.org/m/sub"}}
	}
	for name, c := range map[string]struct {
		change func(map[string][]string)
		want   string
	}{
		"sound":                     {func(map[string][]string) {}, ""},
		"import runs up":            {func(p map[string][]string) { p["low"] = append(p["low"], "top") }, "low imports top, which is not below it"},
		"sideways, forbidden":       {func(p map[string][]string) { p["mid/a"] = []string{"mid/b"} }, "mid/a knows mid/b"},
		"forbidden, through others": {func(p map[string][]string) { p["mid/a"] = []string{"low"} }, "top knows low"},
		"package without a row":     {func(p map[string][]string) { p["new"] = nil }, "new has no row"},
		"row without a package":     {func(p map[string][]string) { delete(p, "mid/a") }, "mid/a has a row, but is no package"},
		"module without a row":      {func(p map[string][]string) { p["mid/b"] = []string{"y.org/m"} }, "mid/b imports y.org/m, which has no row"},
		"module used elsewhere":     {func(p map[string][]string) { p["mid/b"] = []string{"x.org/m"} }, "x.org/m is imported by low, mid/b"},
		"module no longer used":     {func(p map[string][]string) { p["low"] = nil }, "x.org/m has a row, but nothing imports it"},
	} {
		t.Run(name, func(t *testing.T) {
			pkgs := sound()
			c.change(pkgs)
			order, _ := rows(doc, "Floors")
			modules, _ := rows(mods, "Modules")
			shipped := map[string]bool{}
			for p := range pkgs {
				shipped[p] = true
			}
			bad := append(floors(pkgs, order[0]), links(pkgs, shipped, modules[0])...)
			if c.want == "" && len(bad) > 0 || c.want != "" && !slices.Contains(bad, c.want) {
				t.Errorf("found %q, expected %q", bad, c.want)
			}
		})
	}
}

// TestArchitectureLinks fails on a link to a file that is gone.
func TestArchitectureLinks(t *testing.T) {
	b, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(string(b), -1) {
		n++
		if _, err := os.Stat(path.Join(path.Dir(architecture), m[1])); err != nil {
			t.Errorf("%s: %v", architecture, err)
		}
	}
	if n == 0 {
		t.Errorf("%s has no link", architecture)
	}
}
