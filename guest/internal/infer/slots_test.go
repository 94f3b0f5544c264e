package infer

import (
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"vmcsnote/internal/x86"
)

// A flatMap maps pages from an address on to memory from another one on.
type flatMap struct {
	addr, phys, pages uint64
	lookups           *atomic.Int64
}

func (f flatMap) End() uint64 { return 1 << 47 }

func (f flatMap) Translate(addr uint64) (x86.Mapping, error) {
	f.lookups.Add(1)
	m := x86.Mapping{Addr: addr &^ (pageSize - 1), Size: pageSize, Entry: x86.Write, Level: 1}
	if n := (m.Addr - f.addr) / pageSize; n < f.pages {
		m.Phys = f.phys + n*pageSize
		return m, nil
	}
	return m, x86.ErrNotMapped
}

func (f flatMap) Mappings() iter.Seq2[x86.Mapping, error] {
	return func(yield func(x86.Mapping, error) bool) {
		for n := range f.pages {
			m := x86.Mapping{Addr: f.addr + n*pageSize, Phys: f.phys + n*pageSize, Size: pageSize,
				Entry: x86.EPTRead | x86.EPTWrite, Level: 1}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// TestClassifyBound: what may be looked up is shared by all batches, and where
// it is used up, nothing more is looked up, by however many goroutines.
func TestClassifyBound(t *testing.T) {
	const pages = 64 * batchMappings
	for _, tt := range []struct {
		name    string
		deltas  []uint64
		lookups int64
		ok      bool
		most    int64 // lookups in the process
	}{
		{"the first round looks for nothing", nil, pages, true, 0},
		{"its mappings count", nil, pages - 1, false, 0},
		{"two for the first page of a batch, then one", []uint64{0, 1 << 40}, pages + 64, true, pages + 64},
		{"one too few", []uint64{0, 1 << 40}, pages + 63, false, pages + 64},
		{"none", []uint64{0, 1 << 40}, 0, false, 0},
		{"few", []uint64{0, 1 << 40}, 10 * batchMappings, false, (10 + 2*maxWorkers) * batchMappings},
		{"pages that no delta explains", []uint64{1 << 39, 1 << 41}, 4 * pages, true, 4 * pages},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, cpus := range []int{1, 4} {
				restore := runtime.GOMAXPROCS(cpus)
				var count, left atomic.Int64
				left.Store(tt.lookups)
				ept := flatMap{0, 1 << 32, pages, &count}
				open := func() Process { return flatMap{1 << 40, 1 << 32, pages, &count} }
				runs, rest, ok := classify(ept, open, tt.deltas, &left)
				runtime.GOMAXPROCS(restore)
				if ok != tt.ok || count.Load() > tt.most+3*int64(cpus) {
					t.Errorf("%d CPUs: %v after %d lookups; expected %v after %d", cpus, ok, count.Load(), tt.ok, tt.most)
				}
				if !ok {
					continue
				}
				whole := run{0, pages * pageSize, 1 << 40, pages}
				switch {
				case len(tt.deltas) == 2 && tt.deltas[1] == 1<<40:
					if len(runs) != 1 || runs[0] != whole || len(rest.addr) != 0 {
						t.Errorf("%d CPUs: %+v and a rest of %d, expected %+v", cpus, runs, len(rest.addr), whole)
					}
				case len(runs) != 0 || len(rest.addr) == 0:
					t.Errorf("%d CPUs: %+v and a rest of %d", cpus, runs, len(rest.addr))
				}
			}
		})
	}
}

// A listing is mappings as they are listed.
type listing []x86.Mapping

func (l listing) Mappings() iter.Seq2[x86.Mapping, error] {
	return func(yield func(x86.Mapping, error) bool) {
		for _, m := range l {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// TestBatches: no batch is large, so that none can fall into many pieces,
// whatever size EPT's pages have.
func TestBatches(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pages []uint64 // sizes
	}{
		{"nothing", nil},
		{"4 KiB", slices.Repeat([]uint64{pageSize}, 2*batchMappings+1)},
		{"2 MiB", slices.Repeat([]uint64{2 << 20}, 100)},
		{"1 GiB", slices.Repeat([]uint64{1 << 30}, 3)},
		{"all of them", slices.Repeat([]uint64{pageSize, 1 << 30, 2 << 20}, 3)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ept listing
			end := uint64(0)
			for _, size := range tt.pages {
				ept = append(ept, x86.Mapping{Addr: end, Phys: 1<<40 + end, Size: size})
				end += size
			}
			var used sync.Pool
			at := uint64(0)
			for b := range batches(ept, &used) {
				start := at
				for _, m := range b.mappings {
					if m.Addr != at || m.Phys != 1<<40+at || m.Size == 0 {
						t.Fatalf("%+v, expected some from %#x on", m, at)
					}
					at += m.Size
				}
				if n := len(b.mappings); n > batchMappings || at-start > batchBytes {
					t.Fatalf("a batch of %d mappings and %#x bytes", n, at-start)
				}
				used.Put(b)
			}
			if at != end {
				t.Errorf("the batches end at %#x, expected %#x", at, end)
			}
		})
	}
}
