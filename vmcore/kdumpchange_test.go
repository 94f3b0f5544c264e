package vmcore

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// kdumpSum is what must survive a change: the notes, VMCOREINFO by the sub
// header, eraseinfo, and memory.
type kdumpSum struct {
	notes, info, erase string
	memory             uint32
}

// sumKDump sums a dump up. Of memory it takes the bytes in the file, which no
// change in place touches, from the bitmaps to offset end; with end 0 it takes
// the pages.
func sumKDump(c *kdump.Dump, end int64) (s kdumpSum, err error) {
	for i := range c.Notes().Notes {
		n, err := c.Notes().Note(i, 1<<20)
		if err != nil {
			return s, err
		}
		if n.Name != elfnote.VMCSInfo || n.Equal(testVMCSInfo) {
			s.notes += string(n.Encode(c.Order))
		}
	}
	text := func(e plan.Extent) string {
		if e.Size > 1<<20 {
			return e.String()
		}
		b := make([]byte, e.Size)
		if err2 := c.Read(b, int64(e.Off)); err2 != nil && err == nil {
			err = err2
		}
		return string(b)
	}
	s.info, s.erase = text(c.Info), text(c.Erase)
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if end > 0 {
		_, err2 := io.Copy(h, io.NewSectionReader(c.R, c.BitmapOff(), end-c.BitmapOff()))
		s.memory = h.Sum32()
		return s, cmp.Or(err, err2)
	}
	page := make([]byte, c.BlockSize)
	for r := range c.Ranges() {
		for off := uint64(0); off < r.Size; off += uint64(c.BlockSize) {
			_, err := c.ReadPhys(page, r.Addr+off)
			if err != nil {
				page = page[:0]
			}
			fmt.Fprintf(h, "%#x %v %s", r.Addr+off, err != nil, page)
			page = page[:cap(page)]
		}
	}
	s.memory = h.Sum32()
	return s, err
}

// A kdumpChange is a plan in place, and what may be found of the dump.
type kdumpChange struct {
	plan     *InPlace
	base     []byte
	dataEnd  int64
	old, new kdumpSum
}

// check makes sure that a version is the old dump or the new one.
func (c *kdumpChange) check(v *version) error {
	s, err := c.sum(v)
	if err == nil && s != c.old && s != c.new {
		return errors.New("neither the old dump nor the new one")
	}
	return err
}

func (c *kdumpChange) sum(v *version) (kdumpSum, error) {
	d, err := kdump.Open(v, v.length())
	if err != nil {
		return kdumpSum{}, err
	}
	return sumKDump(d, c.dataEnd)
}

func (c *kdumpChange) version(edits []edit) *version {
	return &version{bytes.NewReader(c.base), int64(len(c.base)), edits}
}

// run carries the plan out, with edit number fail failing.
func (c *kdumpChange) run(t *testing.T, fail int) (*journal, error) {
	j := &journal{base: bytes.NewReader(c.base), size: int64(len(c.base)), fail: fail}
	return j, c.plan.Run(t.Context(), j, func(int64) {})
}

// kdumpSplices are the changes to notes that the tests try.
var kdumpSplices = map[string]func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool){
	"inject": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		_, there := s.Find(n.Name, 0)
		return s.Insert(n), !there
	},
	"inject a large one": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		n.Desc = bytes.Repeat(n.Desc, 5000/len(n.Desc)+1)
		return s.Insert(n), true
	},
	"append": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) { return s.Append(n), true },
	"remove VMCOREINFO": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		i, ok := s.Find(elfnote.VMCoreInfo, 0)
		return removal(s, i, ok)
	},
	"remove first": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		return removal(s, 0, len(s.Notes) > 0)
	},
	"remove last": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		return removal(s, len(s.Notes)-1, len(s.Notes) > 0)
	},
	"replace": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		i, ok := s.Find(n.Name, 0)
		if !ok {
			return elfnote.Splice{}, false
		}
		return s.Replace(i, n), true
	},
	"add VMCOREINFO": func(s *elfnote.Segment, _ elfnote.Note) (elfnote.Splice, bool) {
		_, there := s.Find(elfnote.VMCoreInfo, 0)
		return s.Append(elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=new\n")}), !there
	},
}

func removal(s *elfnote.Segment, i int, ok bool) (elfnote.Splice, bool) {
	if !ok {
		return elfnote.Splice{}, false
	}
	return s.Remove(i), true
}

// wantInfo is where VMCOREINFO must be: as the note has it, or nowhere.
func wantInfo(c *kdump.Dump) plan.Extent {
	i, ok := c.Notes().Find(elfnote.VMCoreInfo, 0)
	if !ok && c.ABI == kdump.ABI32Padded {
		return plan.Extent{Off: c.Note.Off, Size: 0}
	}
	if !ok {
		return plan.Extent{}
	}
	e := c.Notes().Notes[i]
	return plan.Extent{Off: c.Note.Off + uint64(e.DescOff), Size: uint64(e.DescSize)}
}

// kdumpChanges plans all changes in place, of dumps that End has changed before,
// too.
func kdumpChanges(t *testing.T) map[string]*kdumpChange {
	kdumpPlans.Do(func() {
		kdumpPlans.changes = map[string]*kdumpChange{}
		cores := kdumpCores(t)
		for name, b := range kdumpCores(t) {
			if len(b) > 1<<20 || strings.HasSuffix(name, "snappy") || strings.HasSuffix(name, "zlib") {
				delete(cores, name)
				continue
			}
			c := openKDump(t, b)
			if p, err := c.PlanInPlace(End, c.Notes().Append(kdumpNote(t, name))); err == nil {
				change := &kdumpChange{plan: p, base: b}
				j, err := change.run(t, 0)
				if err != nil {
					t.Fatal(err)
				}
				cores[name+"+end"], _ = io.ReadAll(io.NewSectionReader(j.now(), 0, j.now().length()))
			}
		}
		for name, b := range cores {
			for how, splice := range kdumpSplices {
				if len(b) > 200<<10 && how != "inject" {
					continue
				}
				for _, pl := range []Placement{Slack, End} {
					if c := planKDump(t, b, kdumpNote(t, name), pl, splice); c != nil {
						kdumpPlans.changes[name+"/"+how+"/"+string(pl)] = c
					}
				}
			}
		}
	})
	if n := len(kdumpPlans.changes); n < 120 {
		t.Fatalf("only %d changes could be planned", n)
	}
	return kdumpPlans.changes
}

var kdumpPlans struct {
	sync.Once
	changes map[string]*kdumpChange
}

func kdumpNote(t testing.TB, name string) elfnote.Note {
	if strings.Contains(name, ".kdump-") {
		return testNote(t, name)
	}
	return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=12\nFIELD(GUEST_RIP)=0706\n")}
}

func planKDump(t *testing.T, b []byte, n elfnote.Note, pl Placement, splice func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool)) *kdumpChange {
	d := openKDump(t, b)
	sp, ok := splice(d.Notes(), n)
	if !ok {
		return nil
	}
	p, err := d.PlanInPlace(pl, sp)
	if err != nil {
		if !errors.Is(err, ErrNoPlace) {
			t.Fatal(err)
		}
		return nil
	}
	c := &kdumpChange{plan: p, base: b, dataEnd: d.DataEnd()}
	if c.old, err = c.sum(c.version(nil)); err != nil {
		t.Fatal(err)
	}
	j, err := c.run(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.new, err = c.sum(j.now()); err != nil {
		t.Fatalf("%s after the change: %v", pl, err)
	}
	done, _ := kdump.Open(j.now(), j.now().length())
	if got, want := done.Info, wantInfo(done); got != want {
		t.Errorf("%s: VMCOREINFO is at %v, want %v", pl, got, want)
	}
	if c.new.memory != c.old.memory || c.new.erase != c.old.erase {
		t.Errorf("%s: the change loses memory", pl)
	}
	noWorse(t, done, d)
	return c
}

// noWorse makes sure that a change leaves no reader worse off, but for a note
// that was added although it was there.
func noWorse(t *testing.T, done, before *kdump.Dump) {
	t.Helper()
	findings := func(c *kdump.Dump) []Finding {
		return slices.DeleteFunc(withoutTables(VerifyDeep(t.Context(), kdumpCore{c})), func(f Finding) bool { return strings.HasPrefix(f.Text, "a second") })
	}
	if a, b := findings(done), findings(before); len(a) > len(b) {
		t.Errorf("verify finds %v, and before %v", a, b)
	}
}

// TestKDumpStopAfterEveryWrite is [TestStopAfterEveryWrite] for these dumps.
func TestKDumpStopAfterEveryWrite(t *testing.T) {
	for name, c := range kdumpChanges(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, _ := c.run(t, 0)
			for i := range j.edits {
				if err := c.check(c.version(j.edits[:i+1])); err != nil {
					t.Fatalf("stopped after %d of %d: %v", i+1, len(j.edits), err)
				}
			}
		})
	}
}

// TestKDumpPowerLoss is [TestPowerLoss] for these dumps.
func TestKDumpPowerLoss(t *testing.T) {
	for name, c := range kdumpChanges(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 60
			if len(c.base) > 200<<10 {
				tries = 10
			}
			rng := rand.New(rand.NewPCG(1, 2))
			var durable, pending []edit
			j, _ := c.run(t, 0)
			for i, e := range j.edits {
				if e.sync {
					durable = append(durable, pending...)
					pending = nil
					continue
				}
				pending = append(pending, e.split()...)
				for range tries {
					lost := slices.Clone(pending)
					rng.Shuffle(len(lost), func(i, j int) { lost[i], lost[j] = lost[j], lost[i] })
					lost = lost[:rng.IntN(len(lost)+1)]
					if err := c.check(c.version(append(slices.Clip(durable), lost...))); err != nil {
						t.Fatalf("power lost at %d, with %d of %d sectors written: %v", i, len(lost), len(pending), err)
					}
				}
			}
			if len(pending) > 0 {
				t.Error("the plan does not end with a sync")
			}
		})
	}
}

// TestKDumpWriteFails is [TestWriteFails] for these dumps.
func TestKDumpWriteFails(t *testing.T) {
	for name, c := range kdumpChanges(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, _ := c.run(t, 0)
			first := &kdumpChange{plan: &InPlace{Steps: c.plan.Steps[:c.plan.Commit], Commit: c.plan.Commit}, base: c.base}
			before, err := first.run(t, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range whole.edits {
				j, err := c.run(t, i+1)
				if s, err2 := c.sum(j.now()); err2 != nil || err == nil && s != c.new {
					t.Fatalf("edit %d failed: %v, and then %v", i, err, err2)
				}
				if err := c.check(j.now()); err != nil {
					t.Fatalf("edit %d failed: %v", i, err)
				}
				if i < len(before.edits) {
					got, _ := io.ReadAll(io.NewSectionReader(j.now(), 0, j.now().length()))
					if err == nil || !bytes.Equal(got, c.base) {
						t.Fatalf("edit %d failed (%v): the dump is not as it was", i, err)
					}
				}
			}
		})
	}
}

// TestKDumpPlacement: which placement each dump allows, and why not.
func TestKDumpPlacement(t *testing.T) {
	sub := func(at int64, v uint64) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint64(b[4096+at:], v) }
	}
	for _, tc := range []struct {
		name       string
		spec       kdumpSpec
		slack, end string
	}{
		{"room", kdumpSpecs["64-room"], "", ""},
		{"full", kdumpSpecs["full"], "0x0 bytes free", ""},
		{"zeros at the bitmap's start", kdumpSpec{notes: kdumpSpecs["full"].notes, pages: []uint64{1000}}, "0x0 bytes free", ""},
		{"split", kdumpSpecs["split"], "", "--reassemble"},
		{"packed", kdumpSpecs["32-packed"], "", "libkdumpfile"},
		{"padded", kdumpSpecs["32-padded"], "", ""},
		{"eraseinfo after the notes", kdumpSpec{erase: "x", edit: sub(64, 4096+104+416+8)}, "0xc bytes free", ""},
		{"truncated", kdumpSpec{cut: 10}, "", "page descriptor 14"},
		{"truncated in the descriptors", kdumpSpec{cut: 20000}, "", "truncated"},
		{"version 3", kdumpSpec{version: 3}, "4 or later: before that dumps had no notes", "4 or later"},
		{"notes over the bitmap", kdumpSpec{pages: []uint64{}, edit: sub(56, 8192)}, "apart from bitmaps", "apart from bitmaps"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := openKDump(t, tc.spec.build())
			for pl, want := range map[Placement]string{Slack: tc.slack, End: tc.end} {
				_, err := c.PlanInPlace(pl, c.Notes().Append(testVMCSInfo))
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%s: %v, want %q", pl, err, want)
				}
			}
			if _, err := c.PlanInPlace(Evict, c.Notes().Append(testVMCSInfo)); err == nil {
				t.Error("evict, too")
			}
		})
	}
}

// TestKDumpWholeGuess: the number of descriptors is guessed, to spare reading
// the bitmap. A guess that is wrong must not let a dump that is cut off pass,
// nor keep one that is whole from being changed.
func TestKDumpWholeGuess(t *testing.T) {
	for _, name := range []string{"cloud-c1.kdump-zlib", "cloud-c1.kdump-lzo", "cloud-c1.kdump-snappy", "cloud-c1.kdump-zstd", "deb-t1.kdump-lzo", "deb-t1.kdump-zstd"} {
		t.Run(name, func(t *testing.T) {
			whole := kdumpFile(t, name)
			c := openKDump(t, whole)
			if n, ok := c.GuessPages(); !ok || n != c.Index().Pages() {
				t.Errorf("%d descriptors guessed (%v), there are %d", n, ok, c.Index().Pages())
			}
			for _, cut := range []int{1, 100, 5000, len(whole) / 2} {
				if err := openKDump(t, whole[:len(whole)-cut]).CheckWhole(); !errors.Is(err, ErrNoPlace) {
					t.Errorf("%d bytes cut off: %v", cut, err)
				}
			}
			// The first page's data, elsewhere.
			for _, more := range []uint64{1, plan.DescSize, 1000 * plan.DescSize} {
				odd := bytes.Clone(whole)
				at := c.DescOff()
				c.Order.PutUint64(odd[at:], c.Order.Uint64(odd[at:])+more)
				if err := openKDump(t, odd).CheckWhole(); err != nil {
					t.Errorf("first descriptor off by %d: %v", more, err)
				}
			}
		})
	}
}

// TestKDumpCutBeforeZeros: pages of zeros share their data, which lies in front
// of all other. However many of them come last, a dump that is cut off is.
func TestKDumpCutBeforeZeros(t *testing.T) {
	b := bytes.Clone(kdumpFile(t, "deb-t1.kdump-zstd"))
	c := openKDump(t, b)
	desc := func(i uint64) []byte { return b[c.DescOff()+int64(i)*plan.DescSize:][:plan.DescSize] }
	end := uint64(0) // of the data in front of the last two windows
	for i := range c.Index().Pages() {
		if i >= c.Index().Pages()-2*kdump.LastDescs {
			copy(desc(i), desc(0))
		}
		e, _ := c.Desc(desc(i)).Data.End()
		end = max(end, e)
	}
	if err := openKDump(t, b[:end]).CheckWhole(); err != nil {
		t.Errorf("whole: %v", err)
	}
	if err := openKDump(t, b[:end-1]).CheckWhole(); !errors.Is(err, ErrNoPlace) {
		t.Errorf("cut off by a byte: %v", err)
	}
}
