package vmcore

import (
	"bytes"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

var _ Core = kdumpCore{}

// TestKDumpMade reads back what was put into the dumps made for the tests.
func TestKDumpMade(t *testing.T) {
	formats := map[string]string{"64-be": "kdump-be", "32-packed": "kdump-32", "32-padded": "kdump-32", "32-padded-be": "kdump-32-be"}
	for name, s := range kdumpSpecs {
		t.Run(name, func(t *testing.T) {
			c := openKDump(t, s.build())
			if want := formats[name]; c.Format() != want && (want != "" || c.Format() != "kdump") {
				t.Errorf("format is %s", c.Format())
			}
			if s.abi != nil && c.ABI != s.abi {
				t.Error("the other 32-bit ABI")
			}
			checkMade(t, c, s)
			if _, ok := c.Notes().Find(elfnote.VMCoreInfo, 0); ok == (s.noNotes || s.noInfo) {
				t.Errorf("VMCOREINFO found: %v", ok)
			}
			if c.Claimed() != c.Size {
				t.Errorf("it claims to end at %#x, want %#x", c.Claimed(), c.Size)
			}
			for _, f := range VerifyDeep(t.Context(), kdumpCore{c}) {
				if !f.Remark && name != "incomplete" && name != "fill" {
					t.Errorf("verify finds %q", f.Text)
				}
			}
		})
	}
}

// checkMade makes sure that the dump holds the spec's pages and no others.
func checkMade(t *testing.T, c *kdump.Dump, s kdumpSpec) {
	t.Helper()
	pages := s.pages
	if pages == nil {
		pages = kdumpPages
	}
	held := map[uint64]bool{}
	for _, pfn := range pages {
		held[pfn] = pfn >= c.StartPFN && pfn < c.EndPFN
	}
	there := map[uint64]bool{}
	for _, pfn := range s.there {
		there[pfn] = true
	}
	size := uint64(c.BlockSize)
	for pfn := range uint64(kdumpMax + 1) {
		if pfn > 400 && pfn < 32700 && !there[pfn] {
			continue
		}
		p := make([]byte, size)
		n, err := c.ReadPhys(p, pfn*size)
		switch in, known := held[pfn]; {
		case in:
			if err != nil || !bytes.Equal(p, kdumpPage(pfn, int(size))) {
				t.Fatalf("PFN %#x: another page, %v", pfn, err)
			}
		case known || there[pfn]:
			want := ErrExcluded
			if pfn < c.StartPFN || pfn >= c.EndPFN {
				want = ErrOtherPiece
			}
			if n != 0 || !errors.Is(err, want) {
				t.Fatalf("PFN %#x: %d bytes, %v, want %v", pfn, n, err, want)
			}
		default:
			if want := ErrNoMemory; n != 0 || !errors.Is(err, want) && !(c.Split && errors.Is(err, ErrOtherPiece)) {
				t.Fatalf("PFN %#x: %d bytes, %v, want %v", pfn, n, err, want)
			}
		}
	}
	var got []uint64
	last := physmem.Range{}
	for r := range c.Ranges() {
		if last.Size > 0 && r.Addr <= last.Addr+last.Size {
			t.Errorf("range %+v touches %+v", r, last)
		}
		for a := r.Addr; a < r.Addr+r.Size; a += size {
			got = append(got, a/size)
		}
		last = r
	}
	n := 0
	for _, pfn := range pages {
		if held[pfn] {
			if n >= len(got) || got[n] != pfn {
				t.Fatalf("ranges are of PFNs %#x, want %#x", got, pages)
			}
			n++
		}
	}
	if n != len(got) {
		t.Fatalf("ranges are of PFNs %#x, want %#x", got, pages)
	}
}

// TestKDumpMemory compares memory with an ELF dump of the same crash: every
// page that both hold must be equal.
func TestKDumpMemory(t *testing.T) {
	for _, name := range kdumpFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kernel, _, _ := strings.Cut(name, ".")
			im := testcores.Image(t, kernel+".elf31")
			e, err := elfcore.Open(im, im.Size())
			if err != nil {
				t.Fatal(err)
			}
			c := openKDump(t, kdumpFile(t, name))
			pages, both := 0, 0
			for r := range c.Ranges() {
				a, b := make([]byte, r.Size), make([]byte, 4096)
				if n, err := c.ReadPhys(a, r.Addr); err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
				for off := uint64(0); off < r.Size; off += 4096 {
					pages++
					if _, err := e.ReadPhys(b, r.Addr+off); err != nil {
						continue
					}
					both++
					if !bytes.Equal(a[off:off+4096], b) {
						t.Fatalf("page %#x differs", r.Addr+off)
					}
				}
			}
			all := 0
			for r := range e.Ranges() {
				all += int(r.Size / 4096)
			}
			if both < 1000 || both < all*9/10 {
				t.Errorf("%d pages, of which the ELF dump holds %d and %d more", pages, both, all-both)
			}
			if f := VerifyDeep(t.Context(), kdumpCore{c}); len(f) > 0 {
				t.Errorf("verify finds %v", f)
			}
			if !bytes.Equal(notesText(t, c.Notes()), notesText(t, e.Notes())) {
				t.Error("the notes differ")
			}
		})
	}
}

// notesText returns all notes, encoded.
func notesText(t testing.TB, s *elfnote.Segment) (b []byte) {
	t.Helper()
	for i := range s.Notes {
		n, err := s.Note(i, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, n.Encode(s.Order)...)
	}
	return b
}

// TestKDumpBlob reads the blob that the pair points to out of the dump.
func TestKDumpBlob(t *testing.T) {
	for _, name := range kdumpFiles {
		c := openKDump(t, kdumpFile(t, name))
		var hits []Hit
		hits, _, err := searchNote(t.Context(), c, vmcsInfo(func(n elfnote.Note) bool { return bytes.HasPrefix(n.Desc, []byte("REVISION_ID=")) }))
		if err != nil || len(hits) != 1 || !hits[0].Note.Equal(testNote(t, name)) {
			t.Errorf("%s: %d notes found, %v", name, len(hits), err)
		}
	}
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

// TestKDumpSmallReads: who reads on in small pieces gets all of it, and no page
// is read twice.
func TestKDumpSmallReads(t *testing.T) {
	s := kdumpSpecs["64"]
	b := s.build()
	r := &countingReader{ReaderAt: bytes.NewReader(b), from: openKDump(t, b).DescOff() + int64(len(kdumpPages))*plan.DescSize}
	c, err := kdump.Open(r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for off := uint64(0); off < 3*4096; off += 24 { // not a divisor of a page
		p := make([]byte, 24)
		want := append(append(kdumpPage(0, 4096), kdumpPage(1, 4096)...), kdumpPage(2, 4096)...)[off:]
		if n, err := c.ReadPhys(p, off); err != nil || !bytes.Equal(p[:n], want[:24]) {
			t.Fatalf("at %#x: %d bytes, %v", off, n, err)
		}
	}
	if n := r.reads.Load(); n > 3 {
		t.Errorf("%d reads of page data for 3 pages", n)
	}
	p := make([]byte, 4*4096)
	if n, err := c.ReadPhys(p, 4095); n != 2*4096+1 || !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "physical address 0x3000") {
		t.Errorf("a read into what is missing: %d bytes, %v", n, err)
	}
	if n, err := c.ReadPhys(p[:2], math.MaxUint64); n != 0 || !errors.Is(err, ErrNoMemory) {
		t.Errorf("at the end of all addresses: %d bytes, %v", n, err)
	}
}

// TestKDumpConcurrent is for the race detector.
func TestKDumpConcurrent(t *testing.T) {
	c := openKDump(t, kdumpSpecs["64"].build())
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			p := make([]byte, 100+i*900)
			for range 20 {
				for _, pfn := range kdumpPages {
					p := p[:min(len(p), 4096)]
					if _, err := c.ReadPhys(p, pfn*4096); err != nil || !bytes.Equal(p, kdumpPage(pfn, 4096)[:len(p)]) {
						t.Errorf("PFN %#x: another page, %v", pfn, err)
					}
				}
			}
		})
	}
	wait.Wait()
}

// TestKDumpAlternating: a bitmap of which every second bit is set does not fill
// memory with ranges.
func TestKDumpAlternating(t *testing.T) {
	const pages = 1 << 22
	s := kdumpSpec{maxMapnr: pages, pages: []uint64{}, edit: func(b []byte, h *kdump.Header) {
		for i := h.BitmapOff(); i < h.DescOff(); i++ {
			b[i] = 0x55
		}
	}}
	b := append(s.build(), make([]byte, pages/2*plan.DescSize)...)
	c := openKDump(t, b)
	n := 0
	before := allocated()
	for r := range c.Ranges() {
		if r != (physmem.Range{Addr: uint64(n) * 8192, Size: 4096}) {
			t.Fatalf("range %d is %+v", n, r)
		}
		n++
	}
	if n != pages/2 {
		t.Errorf("%d ranges, want %d", n, pages/2)
	}
	if got := allocated() - before; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

// TestKDumpManyRuns searches a dump with more runs of pages than the 2^20 that
// were once the most: none of the holes between them counts as memory.
func TestKDumpManyRuns(t *testing.T) {
	const runs = 1<<20 + 1
	s := kdumpSpec{maxMapnr: 2 * runs, pages: []uint64{}, edit: func(b []byte, h *kdump.Header) {
		for i := h.BitmapOff(); i < h.DescOff(); i++ {
			b[i] = 0x55
		}
	}}
	b := append(s.build(), make([]byte, runs*plan.DescSize)...)
	for name, c := range map[string]Core{
		"kdump":     kdumpCore{openKDump(t, b)},
		"flattened": mustFlat(t, flatOf(record{0, b})),
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for r := range c.Ranges() {
				if r.Size != 4096 || r.Addr/r.Size&1 != 0 {
					t.Fatalf("run %d is %+v", n, r)
				}
				n++
			}
			if n != runs {
				t.Errorf("%d runs", n)
			}
			if name != "kdump" || testing.Short() {
				return // each page is an error, which takes its time
			}
			hits, _, err := searchNote(t.Context(), c, vmcsInfo(func(elfnote.Note) bool { return true }))
			if len(hits) > 0 || err != nil {
				t.Errorf("found %v, %v", hits, err)
			}
		})
	}
}

// TestKDumpLive reads a live system's dump: the memory had more pages to dump
// when they were written than when they were counted, so that page data, that of
// the pages of zeros first, begins before the descriptors end.
func TestKDumpLive(t *testing.T) {
	const more = 2 // descriptors where the page of zeros is
	spec := kdumpSpec{edit: func(b []byte, h *kdump.Header) {
		at := h.DescOff() + int64(len(kdumpPages)-more)*plan.DescSize
		for _, i := range []int64{0, 3, 5} {
			d := b[h.DescOff()+i*plan.DescSize:]
			h.Order.PutUint64(d, uint64(at))
			h.Order.PutUint32(d[8:], uint32(h.BlockSize))
			h.Order.PutUint32(d[12:], kdump.Raw)
		}
	}}
	b := spec.build()
	c := openKDump(t, b)
	found := withoutTables(VerifyDeep(t.Context(), kdumpCore{c}))
	if len(found) != 1 || !found[0].Remark || !strings.Contains(found[0].Text, "page data begins at") {
		t.Errorf("verify finds %v", found)
	}
	page := make([]byte, 4096)
	for i, pfn := range kdumpPages {
		want := kdumpPage(pfn, 4096)
		if i == 0 || i == 3 || i == 5 {
			want = b[c.Index().Data:][:4096]
		}
		if n, err := c.ReadPhys(page, pfn*4096); n != 4096 || err != nil || !bytes.Equal(page, want) {
			t.Errorf("PFN %#x: %d bytes, %v, or others than in the file", pfn, n, err)
		}
	}
	if hits, _, err := searchNote(t.Context(), c, vmcsInfo(func(elfnote.Note) bool { return true })); len(hits) > 0 || err != nil {
		t.Errorf("found %v, %v", hits, err)
	}
}
