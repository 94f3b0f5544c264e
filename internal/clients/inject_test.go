package clients

import (
	"encoding/binary"
	"path/filepath"
	"strconv"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// inject adds the kernel's own note to the named core, and returns the result.
// how is "copy", "in place", or a placement.
func inject(t *testing.T, name, how string) string {
	t.Helper()
	return injectInto(t, testcores.Open(t, name), name, how)
}

// injectInto is inject for the core at path, whose kernel is the named core's.
func injectInto(t *testing.T, path, name, how string) string {
	t.Helper()
	n, err := elfnote.FromBlob(testcores.Blob(t, name), elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	open := vmcore.OpenFileRW
	if how == "copy" {
		open = vmcore.OpenFile
	}
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sp := f.Notes().Insert(n)
	if how == "copy" {
		out := filepath.Join(t.TempDir(), name)
		if _, err := f.CopyTo(t.Context(), out, sp, vmcore.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	only := vmcore.Placement(how)
	if how == "in place" {
		only = ""
	}
	p, err := f.Plan(sp, f.Notes().Append(n), only)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in place by %s", p.Placement)
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// noteOf returns the core's VMCSINFO, or the zero Note.
func noteOf(t *testing.T, core string) elfnote.Note {
	t.Helper()
	f, err := vmcore.OpenFile(core)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	i, ok := f.Notes().Find(elfnote.VMCSInfo, 0)
	if !ok {
		return elfnote.Note{Name: "none", Desc: []byte("the original has none")}
	}
	n, err := f.Notes().Note(i, elfnote.MaxBlob)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func orderOf(t *testing.T, core string) binary.ByteOrder {
	t.Helper()
	f, err := vmcore.OpenFile(core)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Notes().Order
}

func hex(n uint64) string { return strconv.FormatUint(n, 16) }
