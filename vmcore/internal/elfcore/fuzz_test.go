package elfcore_test

import (
	"bytes"
	"io"
	"math"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// FuzzOpen: whatever the bytes, no panic, and no memory for what a header
// claims.
func FuzzOpen(f *testing.F) {
	testdumps.ELFSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := testdumps.Allocated()
		c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			c.Verify()
			for range c.Ranges() {
			}
			p := make([]byte, 4096)
			for _, prog := range c.Progs[:min(len(c.Progs), 10)] {
				if n, err := c.ReadPhys(p, prog.Paddr); n < len(p) && err == nil {
					t.Error("a short read without an error")
				}
			}
		} else if c != nil {
			t.Error("an error, and a core")
		}
		if got := testdumps.Allocated() - before; got > 16<<20+64*uint64(len(b)) {
			t.Errorf("%d bytes allocated for a file of %d", got, len(b))
		}
	})
}

// FuzzInject adds a note to whatever opens, in each way that can be planned.
// What comes out must open, and hold the note, all other notes and all memory.
func FuzzInject(f *testing.F) {
	testdumps.ELFSeeds(f)
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_RIP)=0706\n")}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(c.Progs) > 100 {
			return
		}
		sp := c.Notes().Insert(n)
		if l, err := c.PlanCopy(sp); err == nil {
			out := &bytes.Buffer{}
			s := &plan.Streamer{Ctx: t.Context(), W: out, R: bytes.NewReader(b), Buf: make([]byte, 1<<10)}
			if err := s.Run(l); err != nil {
				t.Fatal(err)
			}
			checkInjected(t, "copy", c, bytes.NewReader(out.Bytes()), int64(out.Len()))
			if int64(out.Len()) != l.Size {
				t.Errorf("%d bytes written, %d planned", out.Len(), l.Size)
			}
		}
		for _, plan := range []func(elfnote.Splice) (*plan.InPlace, error){c.PlanSlack, c.PlanSplit, c.PlanEvict} {
			p, err := plan(sp)
			if err != nil {
				continue
			}
			j := &faults.Journal{Base: bytes.NewReader(b), Size: int64(len(b))}
			if err := p.Run(t.Context(), j, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			checkInjected(t, string(p.Placement), c, j.Now(), j.Now().Len())
		}
	})
}

func checkInjected(t *testing.T, how string, old *elfcore.ELF, r io.ReaderAt, size int64) {
	t.Helper()
	c, err := elfcore.Open(r, size)
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	if got, want := len(c.Notes().Notes), len(old.Notes().Notes)+1; got != want {
		t.Fatalf("%s: %d notes, want %d", how, got, want)
	}
	loads := func(s testdumps.Sum) (held []testdumps.Load) {
		for _, l := range s.Loads {
			if l.Held > 0 && l.Filesz < math.MaxInt64 {
				held = append(held, l)
			}
		}
		return held
	}
	if err := (testdumps.Sum{Loads: loads(testdumps.Summarize(t, c, ""))}).Diff(testdumps.Sum{Loads: loads(testdumps.Summarize(t, old, ""))}); err != nil {
		t.Fatalf("%s: %v", how, err)
	}
}
