package physmem

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

var errLost = errors.New("no such page")

// numbered is memory in which each aligned 8-byte word holds its own address. A
// page for which lost is true cannot be read.
type numbered struct {
	ranges []Range
	lost   func(page uint64) bool
	data   func(Range) iter.Seq[Range] // nil: all

	mu   *sync.Mutex
	read *uint64 // bytes
}

func newNumbered(rs ...Range) numbered {
	return numbered{ranges: rs, lost: func(uint64) bool { return false }, mu: new(sync.Mutex), read: new(uint64)}
}

func (m numbered) Ranges() iter.Seq[Range] { return slices.Values(m.ranges) }

func (m numbered) Data(r Range) iter.Seq[Range] {
	if m.data == nil {
		return slices.Values([]Range{r})
	}
	return m.data(r)
}

func (m numbered) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for ; n < len(p); n++ {
		at := addr + uint64(n)
		if m.lost(at / page) {
			err = errLost
			break
		}
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], at&^7)
		p[n] = word[at&7]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.read += uint64(n)
	return n, err
}

// collect scans m, and returns what was shown, lost, and the progress.
func collect(t *testing.T, m numbered, opt ScanOptions) (seen, lost []Range, done uint64) {
	t.Helper()
	var mu sync.Mutex
	opt.Progress = func(n uint64) {
		if n <= done {
			t.Errorf("progress %d after %d", n, done)
		}
		done = n
	}
	opt.Lost = func(addr uint64, err error) {
		if !errors.Is(err, errLost) {
			t.Errorf("%#x: lost for %v", addr, err)
		}
		lost = append(lost, Range{addr, 1})
	}
	err := Scan(t.Context(), m, opt, func(addr uint64, b []byte) error {
		want := make([]byte, len(b))
		newNumbered().ReadPhys(want, addr)
		if !slices.Equal(b, want) {
			t.Errorf("%#x: not what the memory holds", addr)
		}
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, Range{addr, uint64(len(b))})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lost, Range.Compare)
	return seen, lost, done
}

func TestScan(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name   string
		ranges []Range
		lost   []uint64 // page numbers
		seen   []Range
		missed []uint64 // addresses
	}{
		{"nothing", nil, nil, nil, nil},
		{"one page", []Range{{0x5000, 0x1000}}, nil, []Range{{0x5000, 0x1000}}, nil},
		{"a byte", []Range{{0x5001, 1}}, nil, []Range{{0x5001, 1}}, nil},
		{"many chunks, unaligned", []Range{{mib - 0x3001, 2*mib + 7}}, nil, []Range{{mib - 0x3001, 2*mib + 7}}, nil},
		{"a gap", []Range{{0x5000, 0x1000}, {0x8000, 0x1800}}, nil, []Range{{0x5000, 0x1000}, {0x8000, 0x1800}}, nil},
		{"pages that cannot be read", []Range{{0, 2 * mib}}, []uint64{3, 256, 257, 511},
			[]Range{{0, 0x3000}, {0x4000, mib - 0x4000}, {mib + 0x2000, mib - 0x3000}}, []uint64{0x3000, mib, mib + 0x1000, 2*mib - 0x1000}},
		{"none can be read", []Range{{0x3000, 0x2000}}, []uint64{3, 4}, nil, []uint64{0x3000, 0x4000}},
		{"parts of pages lost", []Range{{0x3800, 0x2000}}, []uint64{3, 5}, []Range{{0x4000, 0x1000}}, []uint64{0x3800, 0x5000}},
		{"the last page of addresses", []Range{{math.MaxUint64 - 0xfff, 0xfff}}, nil, []Range{{math.MaxUint64 - 0xfff, 0xfff}}, nil},
	} {
		for _, chunk := range []int{0, page, mib} {
			t.Run(tt.name, func(t *testing.T) {
				m := newNumbered(tt.ranges...)
				m.lost = func(n uint64) bool { return slices.Contains(tt.lost, n) }
				seen, lost, done := collect(t, m, ScanOptions{Chunk: chunk})
				for _, r := range seen {
					if chunk > 0 && r.Addr/uint64(chunk) != (r.Addr+r.Size-1)/uint64(chunk) {
						t.Errorf("%#x crosses a chunk", r)
					}
				}
				if got := Union(seen); !slices.Equal(got, tt.seen) {
					t.Errorf("seen %#x, want %#x", got, tt.seen)
				}
				var missed []uint64
				for _, r := range lost {
					missed = append(missed, r.Addr)
				}
				if !slices.Equal(missed, tt.missed) {
					t.Errorf("lost %#x, want %#x", missed, tt.missed)
				}
				if done != Size(m) {
					t.Errorf("progress ended at %#x of %#x", done, Size(m))
				}
			})
		}
	}
}

// Over random ranges, with random pages missing and random holes: each byte is
// seen once, lost or a hole, and holes are not read.
func TestScanProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		var rs, holes []Range
		for range random.IntN(8) {
			rs = append(rs, Range{random.Uint64N(1 << 19), random.Uint64N(1 << 16)})
			holes = append(holes, Range{random.Uint64N(1 << 19), random.Uint64N(1 << 16)})
		}
		holes = Union(holes)
		m := newNumbered(Union(rs)...)
		salt := random.Uint64N(100)
		m.lost = func(n uint64) bool { return (n*2654435761+salt)%31 == 0 }
		m.data = func(r Range) iter.Seq[Range] {
			return func(yield func(Range) bool) {
				at := r.Addr
				for _, h := range holes {
					if h = h.Intersect(r); h.Size > 0 {
						if at < h.Addr && !yield(Between(at, h.Addr)) {
							return
						}
						at = h.End()
					}
				}
				if at < r.End() {
					yield(Between(at, r.End()))
				}
			}
		}
		seen, lost, done := collect(t, m, ScanOptions{Chunk: page << random.IntN(5)})
		total := uint64(0)
		for _, r := range seen {
			total += r.Size
		}
		if got := Union(slices.Clone(seen)); Size(numbered{ranges: got}) != total {
			t.Fatalf("%#x: something was seen twice", m.ranges)
		}
		for _, r := range m.ranges {
			for at := r.Addr; at < r.End(); at += 97 {
				in := func(rs []Range) bool { return slices.ContainsFunc(rs, func(r Range) bool { return r.Contains(at) }) }
				missing := slices.ContainsFunc(lost, func(l Range) bool { return l.Addr/page == at/page })
				// A page that is a hole in part is read.
				hole := slices.ContainsFunc(holes, func(h Range) bool { return h.Intersect(r).Contains(at) && pageIn(at, h, r) })
				if want := !hole && !m.lost(at/page); in(seen) != want || !hole && missing == want {
					t.Fatalf("%#x: seen %v, lost %v, hole %v", at, in(seen), missing, hole)
				}
			}
		}
		if done != Size(m) {
			t.Fatalf("progress ended at %#x of %#x", done, Size(m))
		}
	}
}

// pageIn reports whether all of the page at addr that is in r is in h.
func pageIn(addr uint64, h, r Range) bool {
	p := Range{addr &^ (page - 1), page}.Intersect(r)
	return p.Intersect(h) == p
}

func TestScanEnds(t *testing.T) {
	const size = 64 << 20
	stop := errors.New("enough")
	for _, tt := range []struct {
		name string
		look func(cancel func()) error
		want error
	}{
		{"for an error of look", func(func()) error { return stop }, stop},
		{"for its context", func(cancel func()) error { cancel(); return nil }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := newNumbered(Range{0, size})
			err := Scan(ctx, m, ScanOptions{Workers: 2}, func(uint64, []byte) error { return tt.look(cancel) })
			if err != tt.want {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if *m.read > size/4 {
				t.Errorf("%d bytes were read of %d", *m.read, size)
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	m := newNumbered(Range{0, size})
	if err := Scan(ctx, m, ScanOptions{}, func(uint64, []byte) error { return nil }); err != stop || *m.read > 0 {
		t.Errorf("cancelled before: %v, %d bytes read", err, *m.read)
	}
}

// Holes cost nothing, however many there are.
func TestScanHoles(t *testing.T) {
	m := newNumbered(Range{0, 1 << 50}, Range{1 << 60, 1 << 50})
	m.data = func(r Range) iter.Seq[Range] {
		return slices.Values([]Range{{r.Addr + 1<<40, page}, {r.End() - page, page}})
	}
	seen, _, done := collect(t, m, ScanOptions{})
	if *m.read != 4*page || len(seen) != 4 || done != Size(m) {
		t.Errorf("%d bytes read in %d pieces, progress %#x of %#x", *m.read, len(seen), done, Size(m))
	}
}
