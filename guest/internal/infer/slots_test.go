package infer

import (
	"iter"
	"runtime"
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

// TestRest: what no delta explains stays small in memory, whatever the size of
// EPT's pages is.
func TestRest(t *testing.T) {
	const delta = 1 << 40
	for _, tt := range []struct {
		name        string
		size, count uint64 // of EPT's pages
		level       int
		explained   uint64 // which 4 KiB pages: each so many; 0: none
		rest        int
	}{
		{"pages of 4 KiB", pageSize, batchMappings, 1, 0, batchMappings},
		{"pages of 2 MiB are one piece each", 2 << 20, 100, 2, 0, 100},
		{"a page of 1 GiB is one piece", 1 << 30, 1, 3, 0, 1},
		{"every second 4 KiB page of 2 MiB", 2 << 20, 4, 2, 2, 4 * 256},
		{"every second 4 KiB page of 1 GiB", 1 << 30, 1, 3, 2, maxRest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := new(batch)
			for n := range tt.count {
				// with a gap, so that no two pages lie on each other
				b.mappings = append(b.mappings, x86.Mapping{Addr: n * tt.size, Phys: 1<<45 + 2*n*tt.size, Size: tt.size,
					Level: tt.level, Entry: x86.EPTRead | x86.EPTWrite})
			}
			var left atomic.Int64
			left.Store(maxLookups)
			b.sort(sparseProcess{b.mappings, tt.explained}, []uint64{delta}, &left)
			if len(b.rest) != tt.rest {
				t.Errorf("%d pieces, expected %d", len(b.rest), tt.rest)
			}
			for _, m := range b.rest {
				if m.Phys-1<<45 != 2*(m.Addr&^(tt.size-1))+m.Addr&(tt.size-1) {
					t.Fatalf("%+v is not where EPT maps it", m)
				}
			}
		})
	}
}

// A sparseProcess maps 4 KiB pages: one of so many to what EPT maps at the
// same place, the others to other memory.
type sparseProcess struct {
	ept       []x86.Mapping
	explained uint64
}

func (p sparseProcess) End() uint64                             { return 1 << 47 }
func (p sparseProcess) Mappings() iter.Seq2[x86.Mapping, error] { return nil }
func (p sparseProcess) Translate(addr uint64) (x86.Mapping, error) {
	m := x86.Mapping{Addr: addr &^ (pageSize - 1), Size: pageSize, Level: 1, Entry: x86.Write}
	gpa := m.Addr - 1<<40
	e := p.ept[gpa/p.ept[0].Size]
	if p.explained > 0 && gpa/pageSize%p.explained == 0 {
		m.Phys = e.Phys + gpa - e.Addr
	}
	return m, nil
}

// TestBatches: batches have all mappings, in order, and are as large as there
// are mappings, whatever the size of these: 2^27 pages of 1 GiB can come out of
// a few tables.
func TestBatches(t *testing.T) {
	for _, n := range []int{0, 1, batchMappings - 1, batchMappings, 3*batchMappings + 1} {
		var ept listing
		for i := range n {
			ept = append(ept, x86.Mapping{Addr: uint64(i) << 30, Size: 1 << 30})
		}
		var used sync.Pool
		count, next := 0, uint64(0)
		for b := range batches(ept, &used) {
			for _, m := range b.mappings {
				if m.Addr != next {
					t.Fatalf("%#x, expected %#x", m.Addr, next)
				}
				next += m.Size
			}
			count++
			used.Put(b)
		}
		if next != uint64(n)<<30 || count != n/batchMappings+1 {
			t.Errorf("%d mappings: %d batches up to %#x", n, count, next)
		}
	}
}
