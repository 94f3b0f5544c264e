package vmcs

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// countReader returns pages that hold their own address, but for those missing.
type countReader struct{ missing func(addr uint64) bool }

func (r countReader) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for ; n < len(p)&^(PageSize-1); n += PageSize {
		if at := addr + uint64(n); r.missing != nil && r.missing(at) {
			return n, errors.Wrapf(errNoPage, "%#x", at)
		}
		binary.LittleEndian.PutUint64(p[n:], addr+uint64(n))
	}
	return len(p), nil
}

func rangesOf(rs ...physmem.Range) iter.Seq[physmem.Range] { return slices.Values(rs) }

// Only whole pages below 2^52 are looked at, and those that cannot be read are
// counted.
func TestFindPages(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name    string
		ranges  []physmem.Range
		missing func(uint64) bool
		pages   uint64
		lost    uint64
		first   uint64 // page lost
	}{
		{"parts of pages at the ends", []physmem.Range{physmem.Between(0x5001, 0x8fff)}, nil, 2, 0, 0},
		{"less than a page", []physmem.Range{physmem.Between(0x5001, 0x5fff), physmem.Between(0x6001, 0x6002)}, nil, 0, 0, 0},
		{"pages that cannot be read", []physmem.Range{physmem.Between(0, 8*mib)}, func(a uint64) bool { return a == 3*mib || a == 0x3000 }, 2048 - 2, 2, 0x3000},
		{"beyond physical memory", []physmem.Range{physmem.Between(maxPhys-0x1000, maxPhys+mib), physmem.Between(1<<60, 1<<60+mib)}, nil, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var done uint64
			m := physmem.With(countReader{tt.missing}, rangesOf(tt.ranges...))
			res, err := Find(t.Context(), m, Search{Progress: func(n uint64) { done = n }})
			if err != nil {
				t.Fatal(err)
			}
			if res.Pages != tt.pages || res.Lost != tt.lost || done != physmem.Size(m) {
				t.Errorf("%d pages, %d lost, %#x bytes done", res.Pages, res.Lost, done)
			}
			if want := fmt.Sprintf("%#x", tt.first); tt.lost > 0 && !strings.Contains(res.ReadError.Error(), want) {
				t.Errorf("first loss: %v, want %s", res.ReadError, want)
			}
		})
	}
}

func TestFindFails(t *testing.T) {
	all := countReader{func(uint64) bool { return true }}
	if _, err := Find(t.Context(), physmem.With(all, rangesOf(physmem.Range{Size: 1 << 20})), Search{}); !errors.Is(err, errNoPage) {
		t.Errorf("no page can be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, physmem.With(countReader{}, rangesOf(physmem.Range{Size: 1 << 20})), Search{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	res, err := Find(t.Context(), physmem.With(countReader{}, rangesOf()), Search{})
	if err != nil || res.Layout != nil || res.Pages != 0 || len(res.Ambiguous()) != 0 {
		t.Errorf("no memory: %+v, %v", res, err)
	}
}
