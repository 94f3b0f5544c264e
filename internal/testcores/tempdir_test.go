package testcores

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSweep: files of a process that has ended go, and those in use stay.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	left, used := filepath.Join(dir, memoryDir+"1"), filepath.Join(dir, memoryDir+"2")
	other := filepath.Join(dir, "other")
	for _, d := range []string{left, used, other} {
		if err := os.MkdirAll(filepath.Join(d, "core"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	defer func(f *os.File) { held.Close(); held = f }(held)
	if !hold(used) {
		t.Fatal("a directory that nobody holds cannot be held")
	}
	sweep(filepath.Join(dir, memoryDir+"*"))
	for d, want := range map[string]bool{left: false, used: true, other: true} {
		if _, err := os.Stat(d); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(d), err)
		}
	}
	if hold(left) {
		t.Error("a directory that is gone is held")
	}
}
