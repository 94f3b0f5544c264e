package vmcore

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// A flatChange is a plan made for a flattened dump.
type flatChange struct {
	plan     *InPlace
	base     []byte
	old, new testdumps.Sum
}

// sum opens a version and sums up the core in it.
func (c *flatChange) sum(v *faults.Version) (s testdumps.Sum, err error) {
	f, err := openFlat(v, v.Len(), Open)
	if err != nil {
		return s, err
	}
	if len(f.View.Shared) > 0 {
		return s, fmt.Errorf("bytes are in two records: %v", f.View.Shared)
	}
	return testdumps.TrySummarize(f.Core.(elfCore).ELF)
}

func (c *flatChange) check(v *faults.Version) error {
	s, err := c.sum(v)
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

func (c *flatChange) version(edits []faults.Edit) *faults.Version {
	return &faults.Version{Base: bytes.NewReader(c.base), Size: int64(len(c.base)), Edits: edits}
}

// run carries the plan out, failing at an edit if fail is not 0.
func (c *flatChange) run(t *testing.T, plan *InPlace, fail int) ([]faults.Edit, error) {
	j := &faults.Journal{Base: bytes.NewReader(c.base), Size: int64(len(c.base)), Fail: fail}
	err := plan.Run(t.Context(), j, func(int64) {})
	return j.Edits, err
}

// flatCuts are ways to cut a core into records, such that a plan must patch
// one record, patch several, or add some.
var flatCuts = map[string]func([]byte) []byte{
	"large records":    func(b []byte) []byte { return testdumps.Flat(testdumps.InRecords(b, flat.BodySize)...) },
	"small, backwards": func(b []byte) []byte { return testdumps.Flat(testdumps.Backwards(testdumps.InRecords(b, 1024))...) },
	"with holes":       func(b []byte) []byte { return testdumps.Flat(testdumps.NotZero(testdumps.InRecords(b, 128))...) },
	"with holes, a device's": func(b []byte) []byte {
		return append(testdumps.Flat(testdumps.NotZero(testdumps.InRecords(b, 160))...), b[:min(len(b), 2000)]...)
	},
	"one hole": func(b []byte) []byte { return testdumps.Flat(testdumps.NotZero(testdumps.InRecords(b, 2048))...) },
}

func flatChanges(t *testing.T) map[string]*flatChange {
	all := map[string]*flatChange{}
	for _, name := range []string{"kernel-slack", "kernel-full", "tight-small-loads", "eraseinfo", "elf32-lsb", "elf64-msb", "vmcsinfo", "bad-zero-fill-tail", "deb-t1.head"} {
		plain := testcores.Bytes(t, name)
		core, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		n, s := testdumps.Note(t, name), core.Notes()
		splices := map[string]elfnote.Splice{"append": s.Append(n), "remove last": s.Remove(len(s.Notes) - 1)}
		if i, ok := s.Find(n.Name, 0); ok {
			splices["replace"], splices["remove"] = s.Replace(i, n), s.Remove(i)
		} else {
			splices["inject"] = s.Insert(n)
		}
		for _, pl := range []Placement{Slack, Evict} {
			for how, sp := range splices {
				direct, err := core.PlanInPlace(pl, sp)
				if err != nil {
					continue
				}
				for cut, flatten := range flatCuts {
					if pl == Evict && cut != "large records" && cut != "one hole" && name != "tight-small-loads" {
						continue // many steps each, once is enough
					}
					c := planFlat(t, flatten(plain), pl, sp, plain, direct)
					if c != nil {
						all[fmt.Sprintf("%s/%s/%s/%s", name, pl, how, cut)] = c
					}
				}
			}
		}
	}
	if len(all) < 60 {
		t.Fatalf("only %d changes could be planned", len(all))
	}
	return all
}

// planFlat plans one change, or returns nil where it cannot be had. What comes
// of it must be what the direct plan makes of the plain form.
func planFlat(t *testing.T, dump []byte, pl Placement, sp elfnote.Splice, plain []byte, direct *InPlace) *flatChange {
	t.Helper()
	f := mustFlat(t, dump)
	p, err := f.PlanInPlace(pl, sp)
	if errors.Is(err, ErrNoPlace) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &flatChange{plan: p, base: dump}
	if c.old, err = c.sum(c.version(nil)); err != nil {
		t.Fatal(err)
	}
	edits, err := c.run(t, p, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.new, err = c.sum(c.version(edits)); err != nil {
		t.Fatal(err)
	}
	j := &faults.Journal{Base: bytes.NewReader(plain), Size: int64(len(plain))}
	if err := direct.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if got, want := testdumps.Rearranged(t, readAll(t, c.version(edits))), readAll(t, j.Now()); !bytes.Equal(got, want) {
		t.Fatalf("put together it is not what the direct change gives:\n%v%v", p, direct)
	}
	return c
}

func readAll(t *testing.T, v *faults.Version) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(v, 0, v.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFlatFaults: a process may die between any two writes, the power may fail
// so that what was not synced is there or not, sector by sector, and any
// write may fail: the dump is the old one or the new one, and one that was
// taken back is the old one to the last byte.
func TestFlatFaults(t *testing.T) {
	for name, c := range flatChanges(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edits, err := c.run(t, c.plan, 0)
			if err != nil {
				t.Fatal(err)
			}
			faults.Stops(t, c.version(nil), edits, 1, c.check)
			faults.PowerLoss(t, c.version(nil), edits, 1, 10, c.check)
			c.failWrites(t, len(edits))
		})
	}
}

func (c *flatChange) failWrites(t *testing.T, edits int) {
	first := *c.plan
	first.Steps = first.Steps[:first.Commit]
	before, err := c.run(t, &first, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := mustFlat(t, c.base).End + flat.RecordHeader
	for i := range edits {
		done, err := c.run(t, c.plan, i+1)
		v := c.version(done)
		if err2 := c.check(v); err2 != nil {
			t.Fatalf("edit %d failed (%v): %v", i, err, err2)
		}
		if i >= len(before) {
			continue
		}
		if got := readAll(t, v); err == nil || len(got) != len(c.base) || !bytes.Equal(got[:end], c.base[:end]) {
			t.Fatalf("edit %d failed (%v): the dump is not as it was", i, err)
		}
	}
}

// TestFlatRefuses: what cannot be done at one stroke is not begun.
func TestFlatRefuses(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-slack")
	n := testdumps.Note(t, "kernel-slack")
	whole := testdumps.InRecords(plain, flat.BodySize)
	f := mustFlat(t, testdumps.Flat(whole...))
	end := f.NotesOff() + f.Notes().Size
	// The header of PT_NOTE is at 64 to 120; of it p_filesz at 96 changes, and
	// p_memsz at 104.
	cut := func(at int64) []testdumps.Record {
		return []testdumps.Record{testdumps.At(0, plain[:at]), testdumps.At(at, plain[at:])}
	}
	// Slack that no record holds, and the end marker at a place in its sector.
	marker := func(at int) []byte {
		r := []testdumps.Record{testdumps.At(0, plain[:end]), testdumps.At(8192, plain[8192:]), testdumps.At(int64(len(plain)), make([]byte, 1))}
		n := len(testdumps.Flat(r...)) - flat.RecordHeader
		r[2].Body = make([]byte, 1+(at-n%plan.SectorSize+plan.SectorSize)%plan.SectorSize)
		return testdumps.Flat(r...)
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"fits", testdumps.Flat(whole...), ""},
		{"cut before p_filesz", testdumps.Flat(cut(96)...), ""},
		{"cut after p_memsz", testdumps.Flat(cut(112)...), ""},
		{"p_filesz in another record than p_memsz", testdumps.Flat(cut(104)...), "the header at offset 0x40 of the plain form is not in one record"},
		{"in two records", testdumps.Flat(append(whole, testdumps.At(64, plain[64:120]))...), "more than one record holds the 0x38 bytes at 0x40 of the plain form, and crash may read either"},
		{"across a sector", testdumps.Flat(testdumps.At(int64(len(plain)), make([]byte, plan.SectorSize-2*flat.RecordHeader-100)), whole[0]),
			"the header at offset 0x40 of the plain form crosses a sector at offset 0x11fc of the file"},
		{"the end marker last in its sector", marker(plan.SectorSize - flat.RecordHeader), ""},
		{"the end marker across a sector", marker(plan.SectorSize - flat.RecordHeader + 1), "of the file crosses a sector"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := mustFlat(t, tc.bytes)
			_, err := f.PlanInPlace(Slack, f.Notes().Append(n))
			if tc.want == "" && err == nil {
				return
			}
			if !errors.Is(err, ErrNoPlace) || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestFlatPlanParts: memory in records of a byte makes no plan of as many
// steps.
func TestFlatPlanParts(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-full")
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	at := int(c.NotesOff() + c.Notes().Size)
	for _, tc := range []struct {
		size int
		want string
	}{{512, ""}, {1, "what has to move lies in "}} {
		records := []testdumps.Record{testdumps.At(0, plain[:at])}
		for _, r := range testdumps.InRecords(plain[at:], tc.size) {
			records = append(records, testdumps.At(int64(at)+r.Off, r.Body))
		}
		f := mustFlat(t, testdumps.Flat(records...))
		before := testdumps.Allocated()
		_, err := f.PlanInPlace(Evict, f.Notes().Insert(testdumps.Note(t, "kernel-full")))
		if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, ErrNoPlace) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("records of %d bytes: error is %v, want %q", tc.size, err, tc.want)
		}
		if n := testdumps.Allocated() - before; n > 2<<20 {
			t.Errorf("records of %d bytes: %d bytes allocated", tc.size, n)
		}
	}
}
