package vmcore

import (
	"bytes"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/testdumps"
)

// contents is what a reader gets of a dump: its notes, and its memory.
type contents struct {
	notes  string
	ranges []physmem.Range
	memory uint32 // a checksum
}

func contentsOf(t *testing.T, c Core) contents {
	t.Helper()
	got := contents{notes: string(testdumps.NotesText(t, c.Notes())), ranges: slices.Collect(c.Ranges())}
	h := crc32.NewIEEE()
	buf := make([]byte, 64<<10)
	for _, r := range got.ranges {
		for at := uint64(0); at < r.Size; at += uint64(len(buf)) {
			n, _ := c.ReadPhys(buf[:min(uint64(len(buf)), r.Size-at)], r.Addr+at) // of a truncated dump, what there is
			h.Write(buf[:n])
		}
	}
	got.memory = h.Sum32()
	return got
}

func (c contents) equal(d contents) bool {
	return c.notes == d.notes && c.memory == d.memory && slices.Equal(c.ranges, d.ranges)
}

// TestRemoveUndoesInject injects into every golden core in every way, and
// removes in every way. The original comes back byte for byte, but where
// doc/notes.md says that it does not; and no note and no memory is ever lost.
func TestRemoveUndoesInject(t *testing.T) {
	cores := map[string][]byte{}
	for _, name := range testdumps.ELFCores(t) {
		if im := testcores.Image(t, name); im.Size() < 1<<20 {
			cores[name] = testcores.Bytes(t, name)
		}
	}
	for name, b := range testdumps.AllKDumps(t) {
		cores[name] = b
	}
	for _, name := range []string{"kernel-slack", "kernel-full", "elf64-msb", "kernel-64k"} {
		cores["flattened "+name] = testdumps.Flat(testdumps.InRecords(cores[name], 4096)...)
	}
	ways := []Placement{"-o", "-", Slack, End, Split, Evict, Copy}
	for name, b := range cores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testdumps.Note(t, "made")
			before, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := before.Notes().Find(n.Name, 0); ok {
				n.Name += "2" // there already
			}
			want := contentsOf(t, before)
			insert := func(c Core) (elfnote.Splice, elfnote.Splice) { return c.Notes().Insert(n), c.Notes().Append(n) }
			remove := func(c Core) (elfnote.Splice, elfnote.Splice) {
				i, ok := c.Notes().Find(n.Name, 0)
				if !ok {
					t.Fatal("the note is not there")
				}
				return c.Notes().Remove(i), c.Notes().Remove(i)
			}
			ways := ways
			if testing.Short() && strings.Contains(name, ".kdump-") {
				ways = ways[:4] // Copy writes what -o writes, the others are for ELF cores
			}
			for _, in := range ways {
				with := changeBy(t, b, in, insert)
				if with == nil {
					continue
				}
				for _, out := range ways {
					back := changeBy(t, with, out, remove)
					if back == nil {
						continue
					}
					if bytes.Equal(back, b) {
						continue
					}
					after, err := Open(bytes.NewReader(back), int64(len(back)))
					if err != nil {
						t.Fatalf("%s, then %s: %v", in, out, err)
					}
					if got := contentsOf(t, after); !got.equal(want) {
						t.Errorf("%s, then %s: notes or memory are lost", in, out)
					}
					if !undoneOtherwise(t, before, with, in, out) {
						t.Errorf("%s, then %s: not the original byte for byte", in, out)
					}
				}
			}
		})
	}
}

// undoneOtherwise has the exceptions of doc/notes.md.
func undoneOtherwise(t *testing.T, before Core, with []byte, in, out Placement) bool {
	t.Helper()
	c, err := Open(bytes.NewReader(with), int64(len(with)))
	if err != nil {
		t.Fatal(err)
	}
	s := before.Notes()
	switch before.(type) {
	case *flatDump: // the records are others
		return true
	case kdumpCore:
		if out == End || out == Slack {
			return true
		}
	case elfCore:
		if in == Split {
			return out == Slack
		}
		if in == Evict || out == Evict || out == Slack && in != Slack {
			return true
		}
	}
	// Notes that have moved stay where they are, and zero fill was no note.
	return c.NotesOff() != before.NotesOff() || s.Fill < s.Size
}

// changeBy changes a core one way, or returns nil where that cannot be had.
func changeBy(t *testing.T, b []byte, way Placement, edit func(Core) (sp, alt elfnote.Splice)) []byte {
	t.Helper()
	dir := t.TempDir()
	path, out := filepath.Join(dir, "core"), filepath.Join(dir, "out")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	switch way {
	case "-":
		_, err := StreamTo(t.Context(), out, bytes.NewReader(b), func(c Core) (elfnote.Splice, error) { sp, _ := edit(c); return sp, nil }, CopyOptions{})
		var refused *Unwritten
		if errors.As(err, &refused) {
			return nil
		}
		if err != nil && !errors.Is(err, ErrTruncated) {
			t.Fatal(err)
		}
	case "-o":
		f := mustOpen(t, path, OpenFile)
		sp, _ := edit(f.Core)
		if _, err := f.CopyTo(t.Context(), out, sp, CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	default:
		out = path
		f := mustOpen(t, path, OpenFileRW)
		defer f.Close()
		sp, alt := edit(f.Core)
		only := way
		p, err := f.Plan(sp, alt, only)
		if errors.Is(err, ErrNoPlace) {
			return nil
		}
		if err == nil {
			err = p.Do(t.Context(), nil)
		}
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
