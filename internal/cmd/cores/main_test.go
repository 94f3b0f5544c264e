package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	path := func(name string) string { return filepath.Join(out, name) }
	if err := os.WriteFile(filepath.Join(dir, "tiny.core"), []byte("elf\nload p_paddr=0x1000 size=0x10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "golden"), 0o755); err != nil {
		t.Fatal(err)
	}
	var listed bytes.Buffer
	for _, args := range [][]string{
		{"unpack", "tiny", path("built")},
		{"pack", path("built"), filepath.Join(dir, "packed.sparse.gz")},
		{"pack", path("built"), filepath.Join(dir, "golden", "new.sparse.gz")},
		{"unpack", "packed", path("unpacked")},
		{"unpack", "golden/new", path("golden")},
		{"list"},
	} {
		if err := run(dir, args, &listed); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}

	built, err := os.ReadFile(path("built"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"unpacked", "golden"} {
		if b, err := os.ReadFile(path(name)); err != nil || !bytes.Equal(b, built) {
			t.Errorf("%s: %d bytes, %v; want the same %d as were packed", name, len(b), err, len(built))
		}
	}
	want := "         136       136  packed\n         136       136  tiny\n         136       136  golden/new\n"
	if listed.String() != want {
		t.Errorf("listed\n%swant\n%s", &listed, want)
	}
}

func TestRunRefuses(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no arguments", nil, errUsage.Error()},
		{"unknown command", []string{"frob"}, errUsage.Error()},
		{"unpack without OUT", []string{"unpack", "x"}, errUsage.Error()},
		{"no such core", []string{"unpack", "x", "out"}, "no core x"},
		{"no such file", []string{"pack", "/nonexistent/file", "out"}, "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := run(".", test.args, nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if _, err := os.Stat("out"); err == nil {
				t.Error("it left a file behind")
			}
		})
	}
}
