package kdump_test

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// sum is what must survive a change: the notes, VMCOREINFO by the sub
// header, eraseinfo, and memory.
type sum struct {
	notes, info, erase string
	memory             uint32
}

// summarize sums a dump up. Of memory it takes the bytes in the file, which no
// change in place touches, from the bitmaps to offset end; with end 0 it takes
// the pages.
func summarize(c *kdump.Dump, end int64) (s sum, err error) {
	for i := range c.Notes().Notes {
		n, err := c.Notes().Note(i, 1<<20)
		if err != nil {
			return s, err
		}
		if n.Name != elfnote.VMCSInfo || n.Equal(testdumps.VMCSInfo) {
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

// A change is a plan in place, and what may be found of the dump.
type change struct {
	plan     *plan.InPlace
	base     []byte
	dataEnd  int64
	old, new sum
}

// check makes sure that a version is the old dump or the new one.
func (c *change) check(v *faults.Version) error {
	s, err := c.sum(v)
	if err == nil && s != c.old && s != c.new {
		return errors.New("neither the old dump nor the new one")
	}
	return err
}

func (c *change) sum(v *faults.Version) (sum, error) {
	d, err := kdump.Open(v, v.Len())
	if err != nil {
		return sum{}, err
	}
	return summarize(d, c.dataEnd)
}

func (c *change) version(edits []faults.Edit) *faults.Version {
	return &faults.Version{Base: bytes.NewReader(c.base), Size: int64(len(c.base)), Edits: edits}
}

// run carries the plan out, with edit number fail failing.
func (c *change) run(t *testing.T, fail int) (*faults.Journal, error) {
	j := &faults.Journal{Base: bytes.NewReader(c.base), Size: int64(len(c.base)), Fail: fail}
	return j, c.plan.Run(t.Context(), j, func(int64) {})
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

// changes plans all changes in place, of dumps that End has changed before,
// too.
func changes(t *testing.T) map[string]*change {
	planned.Do(func() {
		planned.changes = map[string]*change{}
		cores := testdumps.AllKDumps(t)
		for name, b := range testdumps.AllKDumps(t) {
			if len(b) > 1<<20 || strings.HasSuffix(name, "snappy") || strings.HasSuffix(name, "zlib") {
				delete(cores, name)
				continue
			}
			c := testdumps.OpenKDump(t, b)
			if p, err := c.PlanInPlace(plan.End, c.Notes().Append(testdumps.KDumpNote(t, name))); err == nil {
				change := &change{plan: p, base: b}
				j, err := change.run(t, 0)
				if err != nil {
					t.Fatal(err)
				}
				cores[name+"+end"], _ = io.ReadAll(io.NewSectionReader(j.Now(), 0, j.Now().Len()))
			}
		}
		for name, b := range cores {
			for how, splice := range testdumps.Splices {
				if len(b) > 200<<10 && how != "inject" {
					continue
				}
				for _, pl := range []plan.Placement{plan.Slack, plan.End} {
					if c := planOne(t, b, testdumps.KDumpNote(t, name), pl, splice); c != nil {
						planned.changes[name+"/"+how+"/"+string(pl)] = c
					}
				}
			}
		}
	})
	if n := len(planned.changes); n < 120 {
		t.Fatalf("only %d changes could be planned", n)
	}
	return planned.changes
}

var planned struct {
	sync.Once
	changes map[string]*change
}

func planOne(t *testing.T, b []byte, n elfnote.Note, pl plan.Placement, splice func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool)) *change {
	d := testdumps.OpenKDump(t, b)
	sp, ok := splice(d.Notes(), n)
	if !ok {
		return nil
	}
	p, err := d.PlanInPlace(pl, sp)
	if err != nil {
		if !errors.Is(err, plan.ErrNoPlace) {
			t.Fatal(err)
		}
		return nil
	}
	c := &change{plan: p, base: b, dataEnd: d.DataEnd()}
	if c.old, err = c.sum(c.version(nil)); err != nil {
		t.Fatal(err)
	}
	j, err := c.run(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.new, err = c.sum(j.Now()); err != nil {
		t.Fatalf("%s after the change: %v", pl, err)
	}
	done, _ := kdump.Open(j.Now(), j.Now().Len())
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
	findings := func(c *kdump.Dump) []plan.Finding {
		return slices.DeleteFunc(testdumps.WithoutTables(verifyDeep(t, c)), func(f plan.Finding) bool { return strings.HasPrefix(f.Text, "a second") })
	}
	if a, b := findings(done), findings(before); len(a) > len(b) {
		t.Errorf("verify finds %v, and before %v", a, b)
	}
}

// TestStopAfterEveryWrite: a process may die between any two writes.
func TestStopAfterEveryWrite(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, _ := c.run(t, 0)
			faults.Stops(t, c.version(nil), j.Edits, 1, c.check)
		})
	}
}

// TestPowerLoss: what was not synced may be there or not, sector by sector.
func TestPowerLoss(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 60
			if len(c.base) > 200<<10 || testing.Short() {
				tries = 10
			}
			j, _ := c.run(t, 0)
			faults.PowerLoss(t, c.version(nil), j.Edits, 1, tries, c.check)
		})
	}
}

// TestWriteFails: a write that fails before the dump has changed leaves it as
// it was, byte for byte; a later one leaves the old or the new dump.
func TestWriteFails(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, _ := c.run(t, 0)
			first := &change{plan: &plan.InPlace{Steps: c.plan.Steps[:c.plan.Commit], Commit: c.plan.Commit}, base: c.base}
			before, err := first.run(t, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range whole.Edits {
				j, err := c.run(t, i+1)
				if s, err2 := c.sum(j.Now()); err2 != nil || err == nil && s != c.new {
					t.Fatalf("edit %d failed: %v, and then %v", i, err, err2)
				}
				if err := c.check(j.Now()); err != nil {
					t.Fatalf("edit %d failed: %v", i, err)
				}
				if i < len(before.Edits) {
					got, _ := io.ReadAll(io.NewSectionReader(j.Now(), 0, j.Now().Len()))
					if err == nil || !bytes.Equal(got, c.base) {
						t.Fatalf("edit %d failed (%v): the dump is not as it was", i, err)
					}
				}
			}
		})
	}
}
