package kdump_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// seeds are the dumps made for the tests, with less memory: the smaller,
// the more usefully they are mutated.
func seeds(f *testing.F) {
	for _, s := range testdumps.KDumps {
		if s.BlockSize > 0 || s.Split[0] > 0 {
			continue
		}
		s.MaxMapnr, s.SubBlocks = 201, 1
		s.Pages, s.There = slices.DeleteFunc(slices.Clone(testdumps.Pages), func(pfn uint64) bool { return pfn > 200 }), nil
		f.Add(s.Build())
	}
}

// FuzzOpen opens whatever the bytes are, and reads all pages.
func FuzzOpen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := testdumps.Allocated()
		c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if c != nil {
				t.Error("an error, and a dump")
			}
			return
		}
		verifyDeep(t, c)
		p := make([]byte, 4096)
		for r := range c.Ranges() {
			for off := uint64(0); off < min(r.Size, 100*4096); off += 4096 {
				if n, err := c.ReadPhys(p, r.Addr+off); n < len(p) && err == nil {
					t.Error("a short read without an error")
				}
			}
		}
		if got := testdumps.Allocated() - before; got > 64<<20+64*uint64(len(b)) {
			t.Errorf("%d bytes allocated for a file of %d", got, len(b))
		}
	})
}

// FuzzInject adds a note to whatever opens, in each way that can be
// planned. What comes out must open, hold the note and all others, and every
// page that could be read before.
func FuzzInject(f *testing.F) {
	seeds(f)
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=12\nFIELD(GUEST_RIP)=0706\n")}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		sp := c.Notes().Insert(n)
		if l, err := c.PlanCopy(sp); err == nil && l.Size < 1<<24 {
			out := testdumps.Copied(t, l, bytes.NewReader(b))
			checkInjected(t, "copy", c, out)
			if int64(len(out)) != l.Size {
				t.Errorf("%d bytes written, %d planned", len(out), l.Size)
			}
		}
		for _, pl := range []plan.Placement{plan.Slack, plan.End} {
			p, err := c.PlanInPlace(pl, sp)
			if err != nil {
				continue
			}
			j := &faults.Journal{Base: bytes.NewReader(b), Size: int64(len(b))}
			if err := p.Run(t.Context(), j, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(io.NewSectionReader(j.Now(), 0, j.Now().Len()))
			if err != nil {
				t.Fatal(err)
			}
			checkInjected(t, string(pl), c, out)
		}
	})
}

func checkInjected(t *testing.T, how string, before *kdump.Dump, b []byte) {
	t.Helper()
	c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	if got, want := len(c.Notes().Notes), len(before.Notes().Notes)+1; got != want {
		t.Fatalf("%s: %d notes, want %d", how, got, want)
	}
	want, got := make([]byte, before.BlockSize), make([]byte, before.BlockSize)
	desc, at := make([]byte, plan.DescSize), before.DescOff()
	for r := range before.Ranges() {
		for off := uint64(0); off < r.Size; off += uint64(before.BlockSize) {
			if err := before.Read(desc, at); err != nil {
				t.Fatal(err)
			}
			at += plan.DescSize
			if _, err := before.ReadPhys(want, r.Addr+off); err != nil || holdsDesc(before, before.Desc(desc).Data) {
				continue // descriptors in a page must change; see TestCopyLive
			}
			if _, err := c.ReadPhys(got, r.Addr+off); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: page %#x is another one (%v)", how, r.Addr+off, err)
			}
		}
	}
}

// holdsDesc reports whether page data shares bytes with a descriptor whose size
// of page data is one that can be.
func holdsDesc(d *kdump.Dump, data plan.Extent) bool {
	table, b := uint64(d.DescOff()), make([]byte, plan.DescSize)
	for n := (max(data.Off, table) - table) / plan.DescSize; n < d.Index().Pages(); n++ {
		at := table + n*plan.DescSize
		if !data.Overlaps(plan.Extent{Off: at, Size: plan.DescSize}) || d.Read(b, int64(at)) != nil {
			break
		}
		if size := d.Desc(b).Data.Size; size > 0 && size <= uint64(d.BlockSize) {
			return true
		}
	}
	return false
}
