package kdump_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestMade reads back what was put into the dumps made for the tests.
func TestMade(t *testing.T) {
	formats := map[string]string{"64-be": "kdump-be", "32-packed": "kdump-32", "32-padded": "kdump-32", "32-padded-be": "kdump-32-be"}
	for name, s := range testdumps.KDumps {
		t.Run(name, func(t *testing.T) {
			c := testdumps.OpenKDump(t, s.Build())
			if want := formats[name]; c.Format() != want && (want != "" || c.Format() != "kdump") {
				t.Errorf("format is %s", c.Format())
			}
			if s.ABI != nil && c.ABI != s.ABI {
				t.Error("the other 32-bit ABI")
			}
			testdumps.CheckMade(t, c, s)
			if _, ok := c.Notes().Find(elfnote.VMCoreInfo, 0); ok == (s.NoNotes || s.NoInfo) {
				t.Errorf("VMCOREINFO found: %v", ok)
			}
			if c.Claimed() != c.Size {
				t.Errorf("it claims to end at %#x, want %#x", c.Claimed(), c.Size)
			}
			for _, f := range verifyDeep(t, c) {
				if !f.Remark && name != "incomplete" && name != "fill" {
					t.Errorf("verify finds %q", f.Text)
				}
			}
		})
	}
}

// verifyDeep returns the findings about headers, notes and pages.
func verifyDeep(t *testing.T, c *kdump.Dump) []plan.Finding {
	return append(c.Verify(), c.VerifyPages(t.Context())...)
}

// countingReader counts reads that begin in page data.
type countingReader struct {
	io.ReaderAt
	from  int64
	reads atomic.Int64
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.from {
		r.reads.Add(1)
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestSmallReads: a reader that goes on in small pieces gets all of it, and no
// page is read twice.
func TestSmallReads(t *testing.T) {
	s := testdumps.KDumps["64"]
	b := s.Build()
	r := &countingReader{ReaderAt: bytes.NewReader(b), from: testdumps.OpenKDump(t, b).DescOff() + int64(len(testdumps.Pages))*plan.DescSize}
	c, err := kdump.Open(r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for off := uint64(0); off < 3*4096; off += 24 { // not a divisor of a page
		p := make([]byte, 24)
		want := append(append(testdumps.Page(0, 4096), testdumps.Page(1, 4096)...), testdumps.Page(2, 4096)...)[off:]
		if n, err := c.ReadPhys(p, off); err != nil || !bytes.Equal(p[:n], want[:24]) {
			t.Fatalf("at %#x: %d bytes, %v", off, n, err)
		}
	}
	if n := r.reads.Load(); n > 3 {
		t.Errorf("%d reads of page data for 3 pages", n)
	}
	p := make([]byte, 4*4096)
	if n, err := c.ReadPhys(p, 4095); n != 2*4096+1 || !errors.Is(err, plan.ErrNoMemory) || !strings.Contains(err.Error(), "physical address 0x3000") {
		t.Errorf("a read into what is missing: %d bytes, %v", n, err)
	}
	if n := testing.AllocsPerRun(100, func() { c.ReadPhys(p[:8], 0x3000) }); n > 3 {
		t.Errorf("%v allocations for a page that is not there, expected 3 at most", n)
	}
	if n, err := c.ReadPhys(p[:2], math.MaxUint64); n != 0 || !errors.Is(err, plan.ErrNoMemory) {
		t.Errorf("at the end of all addresses: %d bytes, %v", n, err)
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	c := testdumps.OpenKDump(t, testdumps.KDumps["64"].Build())
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			p := make([]byte, 100+i*900)
			for range 20 {
				for _, pfn := range testdumps.Pages {
					p := p[:min(len(p), 4096)]
					if _, err := c.ReadPhys(p, pfn*4096); err != nil || !bytes.Equal(p, testdumps.Page(pfn, 4096)[:len(p)]) {
						t.Errorf("PFN %#x: another page, %v", pfn, err)
					}
				}
			}
		})
	}
	wait.Wait()
}

// TestAlternating: a bitmap of which every second bit is set does not fill
// memory with ranges.
func TestAlternating(t *testing.T) {
	const pages = 1 << 22
	s := testdumps.KDump{MaxMapnr: pages, Pages: []uint64{}, Edit: func(b []byte, h *kdump.Header) {
		for i := h.BitmapOff(); i < h.DescOff(); i++ {
			b[i] = 0x55
		}
	}}
	b := append(s.Build(), make([]byte, pages/2*plan.DescSize)...)
	c := testdumps.OpenKDump(t, b)
	n := 0
	before := testdumps.Allocated()
	for r := range c.Ranges() {
		if r != (physmem.Range{Addr: uint64(n) * 8192, Size: 4096}) {
			t.Fatalf("range %d is %+v", n, r)
		}
		n++
	}
	if n != pages/2 {
		t.Errorf("%d ranges, want %d", n, pages/2)
	}
	if got := testdumps.Allocated() - before; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

// TestLive reads a live system's dump: the memory had more pages to dump
// when they were written than when they were counted, so that page data, that
// of the pages of zeros first, begins before the descriptors end.
func TestLive(t *testing.T) {
	b := testdumps.LiveKDump.Build()
	c := testdumps.OpenKDump(t, b)
	found := testdumps.WithoutTables(verifyDeep(t, c))
	if len(found) != 1 || !found[0].Remark || !strings.Contains(found[0].Text, "page data begins at") {
		t.Errorf("verify finds %v", found)
	}
	page := make([]byte, 4096)
	for i, pfn := range testdumps.Pages {
		want := testdumps.Page(pfn, 4096)
		if i == 0 || i == 3 || i == 5 {
			want = b[c.Index().Data:][:4096]
		}
		if n, err := c.ReadPhys(page, pfn*4096); n != 4096 || err != nil || !bytes.Equal(page, want) {
			t.Errorf("PFN %#x: %d bytes, %v, or others than in the file", pfn, n, err)
		}
	}
}

var le = binary.LittleEndian
