package testdumps

import (
	"bytes"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// CheckMade makes sure that the dump holds the spec's pages and no others.
func CheckMade(t *testing.T, c *kdump.Dump, s KDump) {
	t.Helper()
	pages := s.Pages
	if pages == nil {
		pages = Pages
	}
	held := map[uint64]bool{}
	for _, pfn := range pages {
		held[pfn] = pfn >= c.StartPFN && pfn < c.EndPFN
	}
	there := map[uint64]bool{}
	for _, pfn := range s.There {
		there[pfn] = true
	}
	size := uint64(c.BlockSize)
	for pfn := range uint64(MaxPFN + 1) {
		if pfn > 400 && pfn < 32700 && !there[pfn] {
			continue
		}
		p := make([]byte, size)
		n, err := c.ReadPhys(p, pfn*size)
		switch in, known := held[pfn]; {
		case in:
			if err != nil || !bytes.Equal(p, Page(pfn, int(size))) {
				t.Fatalf("PFN %#x: another page, %v", pfn, err)
			}
		case known || there[pfn]:
			want := plan.ErrExcluded
			if pfn < c.StartPFN || pfn >= c.EndPFN {
				want = plan.ErrOtherPiece
			}
			if n != 0 || !errors.Is(err, want) {
				t.Fatalf("PFN %#x: %d bytes, %v, want %v", pfn, n, err, want)
			}
		default:
			if want := plan.ErrNoMemory; n != 0 || !errors.Is(err, want) && !(c.Split && errors.Is(err, plan.ErrOtherPiece)) {
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
