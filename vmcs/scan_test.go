package vmcs

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// countReader gives pages that hold their own address, but for those missing.
type countReader struct{ missing func(addr uint64) bool }

func (r countReader) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for ; n < len(p); n += PageSize {
		if r.missing != nil && r.missing(addr+uint64(n)) {
			return n, errNoPage
		}
		binary.LittleEndian.PutUint64(p[n:], addr+uint64(n))
	}
	return len(p), nil
}

func rangesOf(spans ...span) iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		for _, s := range spans {
			if !yield(physmem.Between(s.addr, s.end)) {
				return
			}
		}
	}
}

func TestScan(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name    string
		ranges  []span
		missing func(uint64) bool
		pages   []span
		lost    uint64
	}{
		{"nothing", nil, nil, nil, 0},
		{"one page", []span{{0x5000, 0x6000}}, nil, []span{{0x5000, 0x6000}}, 0},
		{"many chunks, unaligned", []span{{mib - 0x3000, 5*mib + 0x2000}}, nil, []span{{mib - 0x3000, 5*mib + 0x2000}}, 0},
		{"parts of pages at the ends", []span{{0x5001, 0x8fff}}, nil, []span{{0x6000, 0x8000}}, 0},
		{"less than a page", []span{{0x5001, 0x5fff}, {0x6001, 0x6002}, {0x7000, 0x7000}}, nil, nil, 0},
		{"a page of two ranges", []span{{0x5000, 0x5800}, {0x5800, 0x6000}}, nil, []span{{0x5000, 0x6000}}, 0},
		{"ranges that touch", []span{{0x5000, 0x6000}, {0x6000, 0x9000}, {0x9000, 2 * mib}}, nil, []span{{0x5000, 2 * mib}}, 0},
		{"a gap", []span{{0x5000, 0x6000}, {0x8000, 0x9000}}, nil, []span{{0x5000, 0x6000}, {0x8000, 0x9000}}, 0},
		{"pages that cannot be read", []span{{0, 2 * mib}}, func(a uint64) bool { return a == 0x3000 || a == mib }, []span{{0, 0x3000}, {0x4000, mib}, {mib + 0x1000, 2 * mib}}, 2},
		{"page 0", []span{{0, 0x1000}}, nil, []span{{0, 0x1000}}, 0},
		{"beyond physical memory", []span{{maxPhys - 0x1000, maxPhys + mib}, {1 << 60, 1<<60 + mib}}, nil, []span{{maxPhys - 0x1000, maxPhys}}, 0},
		{"the end of addresses", []span{{^uint64(0) &^ 0xfff, ^uint64(0)}}, nil, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var got, want []uint64
			s := scan{r: countReader{tt.missing}, look: func(addr uint64, page []byte) {
				mu.Lock()
				defer mu.Unlock()
				if held := binary.LittleEndian.Uint64(page); held != addr || len(page) != PageSize {
					t.Errorf("%#x: page of %#x", addr, held)
				}
				got = append(got, addr)
			}}
			var handed uint64
			if err := s.run(t.Context(), rangesOf(tt.ranges...), func(n uint64) { handed += n }); err != nil {
				t.Fatal(err)
			}
			for _, p := range tt.pages {
				for a := p.addr; a < p.end; a += PageSize {
					want = append(want, a)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%d pages, expected %d", len(got), len(want))
			}
			if s.lost != tt.lost || s.pages != uint64(len(want)) || handed != (s.pages+s.lost)*PageSize {
				t.Errorf("%d pages lost, %d looked at, %d bytes handed out; expected %d and %d", s.lost, s.pages, handed, tt.lost, len(want))
			}
		})
	}
}

func TestScanFirstLoss(t *testing.T) {
	s := scan{r: countReader{func(a uint64) bool { return a >= 0x4000 }}, look: func(uint64, []byte) {}}
	if err := s.run(t.Context(), rangesOf(span{0, 8 << 20}), nil); err != nil {
		t.Fatal(err)
	}
	if s.at != 0x4000 || !errors.Is(s.err, errNoPage) {
		t.Errorf("first loss at %#x: %v", s.at, s.err)
	}
}

func TestFindFails(t *testing.T) {
	all := countReader{func(uint64) bool { return true }}
	if _, err := Find(t.Context(), physmem.With(all, rangesOf(span{0, 1 << 20})), Search{}); !errors.Is(err, errNoPage) {
		t.Errorf("no page can be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, physmem.With(countReader{}, rangesOf(span{0, 1 << 20})), Search{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	res, err := Find(t.Context(), physmem.With(countReader{}, rangesOf()), Search{})
	if err != nil || res.Layout != nil || res.Pages != 0 || len(res.Ambiguous()) != 0 {
		t.Errorf("no memory: %+v, %v", res, err)
	}
}
