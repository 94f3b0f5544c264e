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

// eachFile calls do with each file of an extension in the directories that
// ./... has.
func eachFile(t *testing.T, ext string, do func(name string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(".", name, d.Name())
		case strings.HasSuffix(name, ext):
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
	eachFile(t, ".go", func(name string) {
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
	eachFile(t, ".go", func(name string) {
		eachLine(t, name, func(n int, line string) {
			text := strings.TrimLeft(line, "\t")
			if columns := utf8.RuneCountInString(text); columns > 80 && strings.HasPrefix(text, "// ") && !strings.Contains(text, "://") {
				t.Errorf("%s:%d: %d columns", name, n, columns)
			}
		})
	})
}

// TestMarkdownWidth: lines of Markdown have 100 columns at most, unless they
// are code, or rows of a table.
func TestMarkdownWidth(t *testing.T) {
	eachFile(t, ".md", func(name string) {
		eachLine(t, name, func(n int, line string) {
			columns := utf8.RuneCountInString(line)
			if columns > 100 && !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "|") {
				t.Errorf("%s:%d: %d columns", name, n, columns)
			}
		})
	})
}

// eachLine calls do with each line of a file, and its number.
func eachLine(t *testing.T, name string, do func(n int, line string)) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		do(n, lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
