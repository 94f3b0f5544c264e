package clients

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// TestSplit reads the pieces that makedumpfile --split writes as the dump that
// it writes without.
func TestSplit(t *testing.T) {
	testcores.Tool(t, "makedumpfile")
	core := testcores.Open(t, "deb-t1.elf31")
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	args := append([]string{"--split", "--splitblock-size", "1024", "-d", "0", "-c", core}, names...)
	if out, err := run(t, "makedumpfile", args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, "whole")
	if out, err := run(t, "makedumpfile", "-d", "0", "-c", core, path); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	var pieces []vmcore.Core
	for _, name := range names {
		c, err := vmcore.OpenFile(name)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		pieces = append(pieces, c.Core)
	}
	c, err := vmcore.JoinPieces(pieces, names)
	if err != nil {
		t.Fatal(err)
	}
	if s := vmcore.ShortfallOf(c); s.Partial() || len(s.Pieces) != 3 || s.Pieces[1].Start == s.Pieces[1].End {
		t.Errorf("%+v", s)
	}
	runs := slices.Collect(whole.Ranges())
	if got := slices.Collect(c.Ranges()); len(runs) == 0 || !slices.Equal(got, runs) {
		t.Fatalf("runs %v, want %v", got, runs)
	}
	for _, r := range runs {
		got, want := make([]byte, r.Size), make([]byte, r.Size)
		_, err1 := c.ReadPhys(got, r.Addr)
		_, err2 := whole.ReadPhys(want, r.Addr)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("memory at %#x differs (%v, %v)", r.Addr, err1, err2)
		}
	}
}
