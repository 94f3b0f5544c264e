package physmem

import (
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRange(t *testing.T) {
	const top = math.MaxUint64
	for _, tt := range []struct {
		name  string
		a, b  Range
		end   uint64
		both  Range
		pages Range // of a
	}{
		{"apart", Range{0x1000, 0x1000}, Range{0x3000, 0x1000}, 0x2000, Range{0x3000, 0}, Range{0x1000, 0x1000}},
		{"that touch", Range{0x1000, 0x1000}, Range{0x2000, 0x1000}, 0x2000, Range{0x2000, 0}, Range{0x1000, 0x1000}},
		{"that overlap", Range{0x1000, 0x1001}, Range{0x2000, 0x1000}, 0x2001, Range{0x2000, 1}, Range{0x1000, 0x1000}},
		{"one in the other", Range{0x1001, 0x5000}, Range{0x2000, 0x10}, 0x6001, Range{0x2000, 0x10}, Range{0x2000, 0x4000}},
		{"of nothing", Range{0x1000, 0}, Range{0, 0x5000}, 0x1000, Range{0x1000, 0}, Range{0x1000, 0}},
		{"that ends beyond all addresses", Range{top - 0xfff, 0x2000}, Range{top - 1, 5}, top, Range{top - 1, 1}, Range{top - 0xfff, 0}},
		{"at the last address", Range{top, 1}, Range{0, top}, top, Range{top, 0}, Range{}},
		{"less than a page", Range{0x1800, 0xfff}, Range{0, top}, 0x27ff, Range{0x1800, 0xfff}, Range{0x2000, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.End(); got != tt.end {
				t.Errorf("ends at %#x, want %#x", got, tt.end)
			}
			if got, back := tt.a.Intersect(tt.b), tt.b.Intersect(tt.a); got != tt.both || back != tt.both {
				t.Errorf("have %#x in common, or %#x, want %#x", got, back, tt.both)
			}
			if got := tt.a.Pages(0x1000); got != tt.pages {
				t.Errorf("pages %#x, want %#x", got, tt.pages)
			}
			for _, r := range []Range{tt.a, tt.b} {
				if r.Contains(r.Addr) != (r.Size > 0) || r.Contains(r.Addr-1) {
					t.Errorf("%#x: its ends", r)
				}
			}
		})
	}
}

// Whatever ranges there are, Union holds the same bytes, sorted, disjoint and
// apart; Joined does if they are sorted.
func TestUnionProperty(t *testing.T) {
	const bytes = 200
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		base := []uint64{0, 1 << 40, math.MaxUint64 - bytes}[random.IntN(3)]
		var held [bytes + 1]bool
		var rs []Range
		for range random.IntN(12) {
			r := Range{base + random.Uint64N(bytes), random.Uint64N(bytes)}
			rs = append(rs, r)
			for at := r.Addr; at < r.End() && at-base < bytes; at++ {
				held[at-base] = true
			}
		}
		sorted := slices.SortedFunc(slices.Values(rs), Range.Compare)
		joined := slices.Collect(Joined(slices.Values(sorted)))
		union := Union(slices.Clone(rs))
		if !slices.Equal(union, joined) {
			t.Fatalf("%#x: union %#x, joined %#x", rs, union, joined)
		}
		checkRanges(t, slices.Values(union))
		for i, want := range held[:bytes] {
			at := base + uint64(i)
			if got := slices.ContainsFunc(union, func(r Range) bool { return r.Contains(at) }); got != want {
				t.Fatalf("%#x: union %#x: %#x is in it: %v", rs, union, at, got)
			}
		}
	}
}

// checkRanges fails the test unless ranges are as [Memory] promises.
func checkRanges(t *testing.T, ranges iter.Seq[Range]) {
	t.Helper()
	var last Range
	for r := range ranges {
		if r.Size == 0 || r.Addr+r.Size < r.Addr || last.Size > 0 && r.Addr <= last.End() {
			t.Fatalf("%#x after %#x", r, last)
		}
		last = r
	}
}

func TestJoinedStops(t *testing.T) {
	rs := []Range{{0, 1}, {2, 1}, {4, 1}}
	for range Joined(slices.Values(rs)) {
		break // and nothing is called again
	}
}

func TestAllZero(t *testing.T) {
	b := make([]byte, 101)
	for i := range b {
		for n := range len(b) - i {
			b[i+n] = 1
			if !AllZero(b[i:i+n]) || AllZero(b[i:i+n+1]) {
				t.Fatalf("%d bytes from %d", n, i)
			}
			b[i+n] = 0
		}
	}
}
