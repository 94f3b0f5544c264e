package vmcore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/testdumps"
)

// planCopy plans to put a copy in the place of the core at path.
func planCopy(t *testing.T, path, name string) (*Plan, error) {
	t.Helper()
	f := mustOpen(t, path, OpenFileRW)
	n := testdumps.Note(t, name)
	return f.Plan(f.Notes().Insert(n), f.Notes().Append(n), Copy)
}

// TestReplaceStillWritten: a core that is not complete, and that somebody has
// open, is not replaced: what is yet to be written would be lost.
func TestReplaceStillWritten(t *testing.T) {
	name := "truncated-memory"
	path := testcores.Open(t, name)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f := mustOpen(t, path, OpenFileRW)
	if err := f.replaceable(Copy); !errors.Is(err, ErrNoPlace) {
		t.Errorf("replaceable, though it is being written (%v)", err)
	}
	f.Close()
	w.Close()
	if _, err := planCopy(t, path, name); err != nil {
		t.Errorf("nobody writes it any more: %v", err)
	}
}

// TestReplaceAnother: whatever has taken the core's name meanwhile stays.
func TestReplaceAnother(t *testing.T) {
	name := "kernel-full"
	path := testcores.Open(t, name)
	p, err := planCopy(t, path, name)
	if err != nil {
		t.Fatal(err)
	}
	newer := testcores.Open(t, "vmcsinfo")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(newer, path); err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); !errors.Is(err, ErrChanged) {
		t.Errorf("error is %v", err)
	}
	testcores.Same(t, path, "vmcsinfo")
	testcores.Same(t, path+".old", name)
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestReplaceKeepsMeta: mode and times are the old core's.
func TestReplaceKeepsMeta(t *testing.T) {
	name := "kernel-full"
	path := testcores.Open(t, name)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := planCopy(t, path, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("not replaced at all")
	}
	if after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("mode %v, time %v; before %v, %v", after.Mode(), after.ModTime(), before.Mode(), before.ModTime())
	}
}

// TestReplaceLinked: a core with two names is not replaced under one of them.
func TestReplaceLinked(t *testing.T) {
	path := testcores.Open(t, "kernel-full")
	if err := os.Link(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if _, err := planCopy(t, path, "kernel-full"); !errors.Is(err, ErrNoPlace) {
		t.Errorf("error is %v", err)
	}
}

// TestGrownAtCommit: a core that grows while its segment moves is left alone.
func TestGrownAtCommit(t *testing.T) {
	name := "kernel-full"
	path := testcores.Open(t, name)
	f := mustOpen(t, path, OpenFileRW)
	p, err := f.Plan(f.Notes().Insert(testdumps.Note(t, name)), elfnote.Splice{}, Evict)
	if err != nil {
		t.Fatal(err)
	}
	grow := func(int64, int64) {
		// By its path the lease would make it wait.
		if err := f.f.Truncate(1 << 20); err != nil {
			t.Error(err)
		}
	}
	if err := p.Do(t.Context(), grow); !errors.Is(err, ErrChanged) {
		t.Errorf("error is %v", err)
	}
	again := mustOpen(t, path, func(p string) (*File, error) { f.Close(); return OpenFile(p) })
	if _, ok := again.Notes().Find(elfnote.VMCSInfo, 0); ok {
		t.Error("the note went in")
	}
}
