package elfcore_test

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// A change is a plan made for a core, and what may be found of the core.
type change struct {
	plan     *plan.InPlace
	base     io.ReaderAt
	size     int64
	old, new testdumps.Sum
}

// check opens a version and makes sure that it is the old core or the new one.
func (c *change) check(v *faults.Version) error {
	core, err := elfcore.Open(v, v.Len())
	if err != nil {
		return err
	}
	s, err := testdumps.TrySummarize(core)
	if err != nil {
		return err
	}
	if errOld := s.Diff(c.old); errOld != nil {
		if errNew := s.Diff(c.new); errNew != nil {
			return fmt.Errorf("not the old core (%v), nor the new (%v)", errOld, errNew)
		}
	}
	return nil
}

// changes returns every change in place that the fault tests look at. Planning
// them all takes a while, so it is done once.
func changes(t *testing.T) map[string]*change {
	planAll.Do(func() { planAll.changes = planChanges(t) })
	if len(planAll.changes) < 30 {
		t.Fatalf("only %d changes could be planned", len(planAll.changes))
	}
	return planAll.changes
}

var planAll struct {
	sync.Once
	changes map[string]*change
}

func planChanges(t *testing.T) map[string]*change {
	all := map[string]*change{}
	for _, name := range []string{
		"deb-t4-smp4.thin", "deb-t1.thin", "deb-t1.elf31", "kernel-slack", "kernel-full", "kernel-many-loads", "tight-small-loads", "tight-filtered",
		"overlap", "eraseinfo", "vmcoredd", "elf32-lsb", "elf64-msb", "no-vmcoreinfo", "bad-zero-fill-tail", "vmcsinfo",
		"unused-phdrs", "unused-odd",
		"gcore", "kernel-64k", "process-alpha",
		"sections-before", "sections-swapped", "loads-unordered",
	} {
		for what, plan := range map[string]func(*elfcore.ELF, elfnote.Splice) (*plan.InPlace, error){"slack": (*elfcore.ELF).PlanSlack, "end": (*elfcore.ELF).PlanEnd, "split": (*elfcore.ELF).PlanSplit, "evict": (*elfcore.ELF).PlanEvict} {
			for how, splice := range map[string]func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool){
				"inject": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
					_, there := s.Find(n.Name, 0)
					return s.Insert(n), !there
				},
				"append": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) { return s.Append(n), true },
				"remove VMCSINFO": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
					i, ok := s.Find(n.Name, 0)
					if !ok {
						return elfnote.Splice{}, false
					}
					return s.Remove(i), true
				},
				"remove last": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
					return s.Remove(len(s.Notes) - 1), true
				},
				"replace": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
					i, ok := s.Find(n.Name, 0)
					if !ok {
						return elfnote.Splice{}, false
					}
					return s.Replace(i, n), true
				},
			} {
				if im := testcores.Image(t, name); im.Size() > 1<<20 && (how != "inject" || what == "split") {
					continue // once is enough for the large ones
				}
				im := testcores.Image(t, name)
				c := planned(t, im, im.Size(), testdumps.Note(t, name), plan, splice)
				if c == nil {
					continue
				}
				all[name+"/"+what+"/"+how] = c
				if what == "split" && how == "inject" {
					again(t, all, name+"/", c, testdumps.Note(t, name))
				}
			}
		}
	}
	return all
}

// again adds what may be done to a core that was split: the note goes out; and
// if the power failed after the headers had changed, the note goes in.
func again(t *testing.T, all map[string]*change, name string, c *change, n elfnote.Note) {
	edits := c.journal(t)
	done, half := c.version(edits), c.version(edits[:c.editsBefore(t, c.plan.Commit+2)])
	join := planned(t, done, done.Len(), n, (*elfcore.ELF).PlanSplit, func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		i, ok := s.Find(n.Name, 0)
		return s.Remove(i), ok
	})
	resume := planned(t, half, half.Len(), n, (*elfcore.ELF).PlanSplit, func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) { return s.Insert(n), true })
	if join == nil || resume == nil {
		t.Fatalf("%s: a split that cannot be undone, or not be finished", name)
	}
	joined, resumed := join.version(join.journal(t)), resume.version(resume.journal(t))
	if c.size < 1<<20 && !bytes.Equal(whole(t, joined), whole(t, c.version(nil))) {
		t.Errorf("%s: joined, it is not the original", name)
	}
	if c.size < 1<<20 && !bytes.Equal(whole(t, resumed), whole(t, done)) {
		t.Errorf("%s: finished later, it is another core", name)
	}
	all[name+"join"], all[name+"resume"] = join, resume
}

// planned plans one change, or returns nil where it cannot be had.
func planned(t *testing.T, im io.ReaderAt, size int64, n elfnote.Note, plan func(*elfcore.ELF, elfnote.Splice) (*plan.InPlace, error), splice func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool)) *change {
	core, err := elfcore.Open(im, size)
	if err != nil {
		t.Fatal(err)
	}
	sp, ok := splice(core.Notes(), n)
	if !ok {
		return nil
	}
	p, err := plan(core, sp)
	if err != nil {
		return nil
	}
	c := &change{plan: p, base: im, size: size}
	c.old = testdumps.Summarize(t, core, "")
	j := &faults.Journal{Base: im, Size: size}
	if err := p.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	done, err := elfcore.Open(j.Now(), j.Now().Len())
	if err != nil {
		t.Fatalf("after the change: %v", err)
	}
	c.new = testdumps.Summarize(t, done, "")
	if err := (testdumps.Sum{Loads: c.new.Loads}).Diff(testdumps.Sum{Loads: c.old.Loads}); err != nil {
		t.Fatalf("the change loses memory: %v", err)
	}
	return c
}

func (c *change) version(edits []faults.Edit) *faults.Version {
	return &faults.Version{Base: c.base, Size: c.size, Edits: edits}
}

// every is 1, or, if the core is large and there is little time, a prime:
// moving its memory takes a hundred writes that are much alike.
func (c *change) every() int {
	if testing.Short() && c.size > 1<<20 {
		return 13
	}
	return 1
}

func (c *change) journal(t *testing.T) []faults.Edit {
	j := &faults.Journal{Base: c.base, Size: c.size}
	if err := c.plan.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return j.Edits
}

// editsBefore returns how many edits the steps before step n make.
func (c *change) editsBefore(t *testing.T, n int) int {
	j := &faults.Journal{Base: c.base, Size: c.size}
	if err := (&plan.InPlace{Steps: c.plan.Steps[:n]}).Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return len(j.Edits)
}

// TestStopAfterEveryWrite: a process may die between any two writes.
func TestStopAfterEveryWrite(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults.Stops(t, c.version(nil), c.journal(t), c.every(), c.check)
		})
	}
}

// TestPowerLoss: what was not synced may be there or not, sector by sector.
func TestPowerLoss(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 100
			switch {
			case c.size > 1<<20:
				tries = 3
			case testing.Short():
				tries = 10
			}
			faults.PowerLoss(t, c.version(nil), c.journal(t), c.every(), tries, c.check)
		})
	}
}

// TestWriteFails: a write that fails before the core has changed leaves it as
// it was, byte for byte; a later one leaves the old or the new core.
func TestWriteFails(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commit, tidy := c.editsBefore(t, c.plan.Commit), c.editsBefore(t, c.plan.Tidy)
			for i := 0; i < len(c.journal(t)); i += c.every() {
				j := &faults.Journal{Base: c.base, Size: c.size, Fail: i + 1, Short: []int{0, 2, 31}[i%3]}
				err := c.plan.Run(t.Context(), j, func(int64) {})
				if done := c.plan.Tidy > 0 && i >= tidy; (err == nil) != done {
					t.Fatalf("edit %d failed, but the error is %v", i, err)
				}
				if err := c.check(j.Now()); err != nil {
					t.Fatalf("edit %d failed: %v", i, err)
				}
				if i < commit && c.size < 1<<20 && !same(t, j.Now(), c) {
					t.Fatalf("edit %d failed: the core is not as it was", i)
				}
			}
		})
	}
}

// same reports whether a version is the original.
func same(t *testing.T, v *faults.Version, c *change) bool {
	t.Helper()
	return bytes.Equal(whole(t, v), whole(t, c.version(nil)))
}

// whole returns all of a version.
func whole(t *testing.T, v *faults.Version) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(v, 0, v.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
