package kdump_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestCopy: a copy holds all that was there, and removing the note undoes it.
func TestCopy(t *testing.T) {
	for name, b := range testdumps.AllKDumps(t) {
		for how, splice := range testdumps.Splices {
			if testing.Short() && len(b) > 200<<10 && how != "inject" {
				continue // all changes of the small ones
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c, n := testdumps.OpenKDump(t, b), testdumps.KDumpNote(t, name)
				sp, ok := splice(c.Notes(), n)
				if !ok {
					return
				}
				l, err := c.PlanCopy(sp)
				if err != nil {
					t.Fatal(err)
				}
				out := testdumps.Copied(t, l, bytes.NewReader(b))
				if int64(len(out)) != l.Size {
					t.Errorf("%#x bytes, planned are %#x", len(out), l.Size)
				}
				done := testdumps.OpenKDump(t, out)
				checkCopy(t, done, c)
				if how == "inject" && name != "fill" {
					i, _ := done.Notes().Find(n.Name, 0)
					if l, err = done.PlanCopy(done.Notes().Remove(i)); err != nil {
						t.Fatal(err)
					}
					if back := testdumps.Copied(t, l, bytes.NewReader(out)); !bytes.Equal(back, b) {
						t.Error("removing the note does not undo injecting it")
					}
				}
			})
		}
	}
}

// TestCopyLive: where page data and descriptors share bytes, a copy whose pages
// move keeps what can be read. What leads to page data is a descriptor, and all
// else is page data.
func TestCopyLive(t *testing.T) {
	over := testdumps.KDump{SubBlocks: 1, Notes: testdumps.KDumps["full"].Notes, Edit: func(b []byte, h *kdump.Header) {
		at := h.DescOff() + 10*plan.DescSize
		copy(b[at:], testdumps.Page(0, int(h.BlockSize)))
		first := b[h.DescOff():]
		h.Order.PutUint64(first, uint64(at))
		h.Order.PutUint32(first[8:], uint32(h.BlockSize))
		h.Order.PutUint32(first[12:], kdump.Raw)
	}}
	under := testdumps.LiveKDump
	under.SubBlocks, under.Notes = over.SubBlocks, over.Notes
	for name, row := range map[string]struct {
		dump testdumps.KDump
		same func(i int) bool
	}{
		"page data over descriptors": {over, func(i int) bool { return i == 0 }},
		"descriptors over page data": {under, func(i int) bool { return i != 0 && i != 3 && i != 5 }},
	} {
		t.Run(name, func(t *testing.T) {
			b := row.dump.Build()
			before := testdumps.OpenKDump(t, b)
			if end := before.Claimed(); end > before.Size {
				t.Errorf("it claims to end at %#x, the file does at %#x", end, before.Size)
			}
			l, err := before.PlanCopy(before.Notes().Insert(testdumps.VMCSInfo))
			if err != nil || l.Shift == 0 {
				t.Fatalf("pages move by %#x bytes: %v", l.Shift, err)
			}
			done := testdumps.OpenKDump(t, testdumps.Copied(t, l, bytes.NewReader(b)))
			want, got := make([]byte, before.BlockSize), make([]byte, before.BlockSize)
			for i, pfn := range testdumps.Pages {
				if !row.same(i) {
					continue
				}
				addr := pfn * uint64(before.BlockSize)
				if _, err := before.ReadPhys(want, addr); err != nil {
					t.Error(err)
				}
				if _, err := done.ReadPhys(got, addr); err != nil || !bytes.Equal(got, want) {
					t.Errorf("page %#x is another one (%v)", addr, err)
				}
			}
		})
	}
}

func checkCopy(t *testing.T, done, before *kdump.Dump) {
	t.Helper()
	got, err := summarize(done, 0)
	want, err2 := once(before)
	if err != nil || err2 != nil || got.memory != want.memory || got.erase != want.erase {
		t.Errorf("the copy loses memory (%v, %v)", err, err2)
	}
	if got, want := done.Info, wantInfo(done); got != want {
		t.Errorf("VMCOREINFO is at %v, want %v", got, want)
	}
	noWorse(t, done, before)
	if done.Claimed() != done.Size {
		t.Errorf("it claims to end at %#x, the file does at %#x", done.Claimed(), done.Size)
	}
}

// once returns the sums of a dump, from its pages. A page takes its time, and a
// golden dump is what many copies are compared with.
func once(d *kdump.Dump) (sum, error) {
	b, err := io.ReadAll(io.NewSectionReader(d.R, 0, d.Size))
	if err != nil {
		return sum{}, err
	}
	key := sha256.Sum256(b)
	if s, ok := summed.Load(key); ok {
		return s.(sum), nil
	}
	s, err := summarize(d, 0)
	if err == nil {
		summed.Store(key, s)
	}
	return s, err
}

var summed sync.Map

// TestHome: a copy brings notes back from the end of the file, and without
// the note is what was before.
func TestHome(t *testing.T) {
	for name, b := range testdumps.AllKDumps(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, n := testdumps.OpenKDump(t, b), testdumps.KDumpNote(t, name)
			p, err := c.PlanInPlace(plan.End, c.Notes().Append(n))
			if err != nil {
				return
			}
			change := &change{plan: p, base: b}
			j, err := change.run(t, 0)
			if err != nil {
				t.Fatal(err)
			}
			ended, _ := io.ReadAll(io.NewSectionReader(j.Now(), 0, j.Now().Len()))
			d := testdumps.OpenKDump(t, ended)
			for i, e := range d.Notes().Notes {
				l, err := d.PlanCopy(d.Notes().Remove(i))
				if err != nil {
					t.Fatal(err)
				}
				out := testdumps.Copied(t, l, bytes.NewReader(ended))
				checkCopy(t, testdumps.OpenKDump(t, out), c)
				if e.Name == n.Name && i == len(d.Notes().Notes)-1 && name != "fill" && !bytes.Equal(out, b) {
					t.Error("a copy without the note is not what was before")
				}
			}
			s, err := kdump.Open(bytes.NewReader(ended), plan.Endless)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.PlanCopy(s.Notes().Remove(0)); !errors.Is(err, plan.ErrOnePass) {
				t.Errorf("a stream: error is %v", err)
			}
		})
	}
}

// TestGolden compares what comes of real dumps with the golden files.
func TestGolden(t *testing.T) {
	for _, name := range []string{"cloud-c1.kdump-lzo"} {
		b := testdumps.KDumpFile(t, name)
		c := testdumps.OpenKDump(t, b)
		sp := c.Notes().Insert(testdumps.Note(t, name))
		l, err := c.PlanCopy(sp)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".copy", testdumps.Copied(t, l, bytes.NewReader(b)))
		p, err := c.PlanInPlace(plan.End, sp)
		if err != nil {
			t.Fatal(err)
		}
		j, err := (&change{plan: p, base: b}).run(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		ended, _ := io.ReadAll(io.NewSectionReader(j.Now(), 0, j.Now().Len()))
		golden(t, name+".end", ended)
	}
}

func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	testcores.Golden(t, path, name)
}
