package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// TestFlatten: the flattened dump is read as one, and has the same notes and
// memory.
func TestFlatten(t *testing.T) {
	plain := testcores.Open(t, "kernel-slack")
	flat := filepath.Join(t.TempDir(), "flat")
	if err := run([]string{"flatten", plain, flat}); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *vmcore.File {
		f, err := vmcore.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(plain), open(flat)
	if x, y := slices.Collect(a.Ranges()), slices.Collect(b.Ranges()); !slices.Equal(x, y) {
		t.Errorf("memory %v, expected %v", y, x)
	}
	x, okX := a.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	y, okY := b.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	if !okX || okX != okY || !bytes.Equal(x.Desc, y.Desc) {
		t.Errorf("VMCOREINFO %q, expected %q", y.Desc, x.Desc)
	}
	if err := run([]string{"flatten", filepath.Join(t.TempDir(), "none"), flat}); err == nil {
		t.Error("no error for a file that is not there")
	}
}
