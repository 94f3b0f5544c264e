// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// eachGoFile calls do with each Go file that ./... has.
func eachGoFile(t *testing.T, do func(name string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(".", name, d.Name())
		case strings.HasSuffix(name, ".go"):
			do(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileNames: files of a package whose names begin with the name of another
// have a topic of their own, and should be a package.
func TestFileNames(t *testing.T) {
	others := map[string]bool{ // words, of which one only happens to begin with the other
		"guest/processor.go": true,
		"vmcs/builtin.go":    true,
		"vmcs/pagetables.go": true,
	}
	eachGoFile(t, func(name string) {
		base := strings.TrimSuffix(name, ".go")
		if strings.HasSuffix(base, "_test") || others[name] {
			return
		}
		for i := len(filepath.Dir(name)) + 4; i < len(base); i++ {
			if short := base[:i] + ".go"; exists(short) {
				t.Errorf("%s begins with the name of %s: make them a package, or name one by what it holds", name, short)
			}
		}
	})
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestCommentWidth: lines of comments have 80 columns at most, without the
// indentation, unless they are laid out by hand.
func TestCommentWidth(t *testing.T) {
	eachGoFile(t, func(name string) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			text := strings.TrimLeft(lines.Text(), "\t")
			if strings.HasPrefix(text, "// ") && utf8.RuneCountInString(text) > 80 && !strings.Contains(text, "://") {
				t.Errorf("%s:%d: %d columns", name, n, utf8.RuneCountInString(text))
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
