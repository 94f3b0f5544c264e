// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A licence by its own line: after a comment's beginning, or REUSE.toml's.
	spdxLine = regexp.MustCompile(`(?m)^[^A-Za-z\n]{0,8}SPDX-License-Identifier(?:: | = ")([A-Za-z0-9. -]+?)(?:"| \*/)?$`)
	// A path of REUSE.toml: a line of one table, with one path or a list.
	reusePath = regexp.MustCompile(`(?m)^path = (.+)$`)
	inQuotes  = regexp.MustCompile(`"([^"]+)"`)
)

// TestLicences keeps the REUSE layout: each licence that a file or REUSE.toml
// names has its text in LICENSES, each text is named, and what is for the
// kernel says GPL-2.0-only itself.
func TestLicences(t *testing.T) {
	texts, err := filepath.Glob("LICENSES/*.txt")
	if err != nil || len(texts) == 0 {
		t.Fatalf("LICENSES: %v, %v", texts, err)
	}
	unused := map[string]bool{}
	for _, name := range texts {
		unused[strings.TrimSuffix(path.Base(name), ".txt")] = true
	}
	known := maps.Clone(unused)
	sources := 0
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch base := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (base == ".git" || base == "dist" || base == "testdata" || base == "LICENSES"):
			return fs.SkipDir
		case !d.Type().IsRegular() || base == "kmod_test.go":
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var own []string
		for _, m := range spdxLine.FindAllSubmatch(b[:min(len(b), 4096)], -1) {
			for id := range strings.SplitSeq(string(m[1]), " AND ") {
				own = append(own, id)
				delete(unused, id)
				if !known[id] {
					t.Errorf("%s: %s has no text in LICENSES", name, id)
				}
			}
		}
		forKernel := bytes.Contains(b, []byte("#include <linux/")) && filepath.Ext(name) == ".c" && bytes.Contains(b, []byte("MODULE_LICENSE")) ||
			strings.HasPrefix(name, "kmod/") && slices.Contains([]string{".c", ".h", ""}, filepath.Ext(name))
		if forKernel {
			sources++
			if !slices.Equal(own, []string{"GPL-2.0-only"}) {
				t.Errorf("%s: its SPDX line says %q, expected GPL-2.0-only", name, own)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(unused) > 0 || sources == 0 {
		t.Errorf("texts of licences that nothing is under: %v; sources for the kernel: %d", slices.Sorted(maps.Keys(unused)), sources)
	}
	root, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile("LICENSES/Apache-2.0.txt"); err != nil || !bytes.Equal(root, text) {
		t.Errorf("LICENSE differs from LICENSES/Apache-2.0.txt (%v)", err)
	}
}

// TestLicencesPaths fails on a path in REUSE.toml that matches nothing.
func TestLicencesPaths(t *testing.T) {
	b, err := os.ReadFile("REUSE.toml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range reusePath.FindAllSubmatch(b, -1) {
		for _, m := range inQuotes.FindAllSubmatch(line[1], -1) {
			n++
			// Each ** here is the last of its path, but for an extension.
			dir, ext, deep := strings.Cut(string(m[1]), "**")
			if !deep {
				if found, err := filepath.Glob(dir); err != nil || len(found) == 0 {
					t.Errorf("REUSE.toml: %s matches no file (%v)", m[1], err)
				}
				continue
			}
			found := false
			err := filepath.WalkDir(path.Clean(dir+"."), func(name string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && strings.HasSuffix(name, ext) {
					found = true
					return fs.SkipAll
				}
				return err
			})
			if err != nil || !found {
				t.Errorf("REUSE.toml: %s matches no file (%v)", m[1], err)
			}
		}
	}
	if n < 4 {
		t.Errorf("REUSE.toml: %d paths", n)
	}
}
