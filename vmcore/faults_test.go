package vmcore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
)

// The tests here carry plans out over a file that keeps a journal of what was
// done to it. From the journal they make every file that could be found if the
// process had been killed after each single write, or if the power had failed:
// then what was written since the last sync may be there or not, in any order,
// sector by sector. Each such file must open, and hold the old or the new notes
// and all memory.

// An edit is one entry of the journal. A size of -1 is none.
type edit struct {
	off  int64
	data []byte
	size int64
	sync bool
	hole bool // punched, not written
}

// A journal is a medium that only notes down what is done to it.
type journal struct {
	base  io.ReaderAt
	size  int64
	edits []edit
	fail  int // fails once, at the edit of that number; 0 for never
	short int // bytes that are written all the same when it fails
}

func (j *journal) now() *version { return &version{j.base, j.size, j.edits} }

func (j *journal) add(e edit) error {
	if j.fail > 0 && len(j.edits) == j.fail-1 {
		j.fail = 0
		if e.size < 0 && len(e.data) > 0 {
			e.data = e.data[:min(j.short, len(e.data))]
			j.edits = append(j.edits, e)
		}
		return io.ErrShortWrite
	}
	j.edits = append(j.edits, e)
	return nil
}

func (j *journal) ReadAt(p []byte, off int64) (int, error) { return j.now().ReadAt(p, off) }
func (j *journal) Truncate(size int64) error               { return j.add(edit{size: size}) }
func (j *journal) Sync() error                             { return j.add(edit{size: -1, sync: true}) }
func (j *journal) Reserve(off, n int64) error              { return nil }

func (j *journal) WriteAt(p []byte, off int64) (int, error) {
	return len(p), j.add(edit{off: off, data: bytes.Clone(p), size: -1})
}

func (j *journal) Zero(off, n int64) error {
	return j.add(edit{off: off, data: make([]byte, n), size: -1, hole: true})
}

func (j *journal) CopyWithin(_ context.Context, s plan.Step, _ func(int64)) error {
	for done := int64(0); done < s.Len; {
		b := make([]byte, min(s.Len-done, 64<<10))
		if _, err := j.ReadAt(b, s.From+done); err != nil {
			return err
		}
		if !s.Thin || slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			if _, err := j.WriteAt(b, s.Off+done); err != nil {
				return err
			}
		}
		done += int64(len(b))
	}
	return nil
}

// A version is a file with edits made to it.
type version struct {
	base  io.ReaderAt
	size  int64
	edits []edit
}

// length returns the file's size after all edits.
func (v *version) length() int64 {
	n := v.size
	for _, e := range v.edits {
		if e.size >= 0 {
			n = e.size
		}
		if len(e.data) > 0 {
			n = max(n, e.off+int64(len(e.data)))
		}
	}
	return n
}

func (v *version) ReadAt(p []byte, off int64) (int, error) {
	end := v.length()
	n := int(max(min(int64(len(p)), end-off), 0))
	p = p[:n]
	clear(p)
	if k := min(int64(n), v.size-off); k > 0 {
		if _, err := v.base.ReadAt(p[:k], off); err != nil && err != io.EOF {
			return 0, err
		}
	}
	for _, e := range v.edits {
		if e.size >= 0 { // what lay after it is gone
			clear(p[min(max(e.size-off, 0), int64(n)):])
		}
		from, to := max(e.off, off), min(e.off+int64(len(e.data)), off+int64(n))
		if from < to {
			copy(p[from-off:to-off], e.data[from-e.off:])
		}
	}
	if n < cap(p) && off+int64(n) >= end {
		return n, io.EOF
	}
	return n, nil
}

// split cuts an edit where sectors begin: a disk writes these whole. A hole may
// be punched in part, too.
func (e edit) split() []edit {
	var parts []edit
	unit := int64(plan.SectorSize)
	if e.hole {
		unit = max(unit, plan.RoundUp(int64(len(e.data))/4, plan.SectorSize))
	}
	for off, data := e.off, e.data; len(data) > 0; {
		n := min(int64(len(data)), unit-off%plan.SectorSize)
		parts = append(parts, edit{off: off, data: data[:n], size: -1})
		off, data = off+n, data[n:]
	}
	if e.size >= 0 {
		parts = append(parts, edit{size: e.size})
	}
	return parts
}

// A change is a plan made for a core, and what may be found of the core.
type change struct {
	plan     *InPlace
	base     io.ReaderAt
	size     int64
	old, new sum
}

// check opens a version and makes sure that it is the old core or the new one.
func (c *change) check(v *version) error {
	core, err := elfcore.Open(v, v.length())
	if err != nil {
		return err
	}
	s, err := c.sum(core)
	if err != nil {
		return err
	}
	if errOld := s.diff(c.old); errOld != nil {
		if errNew := s.diff(c.new); errNew != nil {
			return fmt.Errorf("not the old core (%v), nor the new (%v)", errOld, errNew)
		}
	}
	return nil
}

func (c *change) sum(core *elfcore.ELF) (s sum, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return summarize(panicker{}, core, ""), nil
}

// panicker lets summarize be used where a failure is no failure of the test.
type panicker struct{ testing.TB }

func (panicker) Helper()           {}
func (panicker) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

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
		"deb-t4-smp4.thin", "deb-t1.thin", "deb-t1.elf31", "kernel-slack", "kernel-full", "tight-small-loads", "tight-filtered",
		"overlap", "eraseinfo", "vmcoredd", "elf32-lsb", "elf64-msb", "no-vmcoreinfo", "bad-zero-fill-tail", "vmcsinfo",
		"unused-phdrs", "unused-odd",
		"gcore", "kernel-64k", "process-alpha",
	} {
		for what, plan := range map[string]func(*elfcore.ELF, elfnote.Splice) (*InPlace, error){"slack": (*elfcore.ELF).PlanSlack, "end": (*elfcore.ELF).PlanEnd, "evict": (*elfcore.ELF).PlanEvict} {
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
				if im := testcores.Image(t, name); im.Size() > 1<<20 && how != "inject" {
					continue // once is enough for the large ones
				}
				c := planned(t, name, plan, splice)
				if c != nil {
					all[name+"/"+what+"/"+how] = c
				}
			}
		}
	}
	return all
}

// planned plans one change, or returns nil where it cannot be had.
func planned(t *testing.T, name string, plan func(*elfcore.ELF, elfnote.Splice) (*InPlace, error), splice func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool)) *change {
	im := testcores.Image(t, name)
	core, err := elfcore.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	sp, ok := splice(core.Notes(), testNote(t, name))
	if !ok {
		return nil
	}
	p, err := plan(core, sp)
	if err != nil {
		return nil
	}
	c := &change{plan: p, base: im, size: im.Size()}
	c.old = summarize(t, core, "")
	j := &journal{base: im, size: im.Size()}
	if err := p.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	done, err := elfcore.Open(j.now(), j.now().length())
	if err != nil {
		t.Fatalf("%s: after the change: %v", name, err)
	}
	c.new = summarize(t, done, "")
	if err := (sum{loads: c.new.loads}).diff(sum{loads: c.old.loads}); err != nil {
		t.Fatalf("%s: the change loses memory: %v", name, err)
	}
	return c
}

func (c *change) journal(t *testing.T) []edit {
	j := &journal{base: c.base, size: c.size}
	if err := c.plan.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return j.edits
}

// editsBefore returns how many edits the steps before step n make.
func (c *change) editsBefore(t *testing.T, n int) int {
	j := &journal{base: c.base, size: c.size}
	if err := (&InPlace{Steps: c.plan.Steps[:n]}).Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return len(j.edits)
}

// TestStopAfterEveryWrite: a process may die between any two writes.
func TestStopAfterEveryWrite(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edits := c.journal(t)
			for i := range edits {
				if err := c.check(&version{c.base, c.size, edits[:i+1]}); err != nil {
					t.Fatalf("stopped after %d of %d: %v", i+1, len(edits), err)
				}
			}
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
			rng := rand.New(rand.NewPCG(1, 2))
			var durable, pending []edit
			for i, e := range c.journal(t) {
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
					if err := c.check(&version{c.base, c.size, append(slices.Clip(durable), lost...)}); err != nil {
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

// TestWriteFails: a write that fails before the core has changed leaves it as
// it was, byte for byte; a later one leaves the old or the new core.
func TestWriteFails(t *testing.T) {
	for name, c := range changes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commit, tidy := c.editsBefore(t, c.plan.Commit), c.editsBefore(t, c.plan.Tidy)
			for i := range len(c.journal(t)) {
				j := &journal{base: c.base, size: c.size, fail: i + 1, short: []int{0, 2, 31}[i%3]}
				err := c.plan.Run(t.Context(), j, func(int64) {})
				if done := c.plan.Tidy > 0 && i >= tidy; (err == nil) != done {
					t.Fatalf("edit %d failed, but the error is %v", i, err)
				}
				if err := c.check(j.now()); err != nil {
					t.Fatalf("edit %d failed: %v", i, err)
				}
				if i < commit && c.size < 1<<20 && !same(t, j.now(), c) {
					t.Fatalf("edit %d failed: the core is not as it was", i)
				}
			}
		})
	}
}

// same reports whether a version is the original.
func same(t *testing.T, v *version, c *change) bool {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(v, 0, v.length()))
	if err != nil {
		t.Fatal(err)
	}
	want, err := io.ReadAll(io.NewSectionReader(c.base, 0, c.size))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(got, want)
}

// TestCancel: a signal before the core has changed leaves it as it was.
func TestCancel(t *testing.T) {
	for _, name := range []string{"kernel-slack", "kernel-full"} {
		t.Run(name, func(t *testing.T) {
			path := testcores.Open(t, name)
			f := mustOpen(t, path, OpenFileRW)
			p, err := f.Plan(f.Notes().Insert(testNote(t, name)), f.Notes().Append(testNote(t, name)), "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.Do(ctx, nil); err == nil {
				t.Error("no error")
			}
			testcores.Same(t, path, name)
		})
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("VMCORE_TEST_INJECT"); path != "" {
		os.Exit(injectForever(path))
	}
	os.Exit(m.Run())
}
