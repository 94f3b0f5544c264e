package infer

import (
	"iter"
	"slices"
	"testing"

	"vmcsnote/internal/x86"
)

// pages are mappings, and the process that has them.
type pages struct {
	noise
	of []x86.Mapping
}

func (p pages) Mappings() iter.Seq2[x86.Mapping, error] {
	return func(yield func(x86.Mapping, error) bool) {
		for _, m := range p.of {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// TestShadowBudget: tables of the host can map the same pages of a process as
// often as they like, and each may hold the guest's highest table. What looks
// for it ends, and where too few pages tell that it is found, does not begin.
func TestShadowBudget(t *testing.T) {
	var large, shared []x86.Mapping
	for i := range uint64(64) {
		large = append(large, x86.Mapping{Addr: i << 30, Phys: 1 << 40, Size: 1 << 30})
	}
	for i := range uint64(wantPairs) {
		shared = append(shared, x86.Mapping{Addr: 1<<46 + i*pageSize, Phys: i * pageSize, Size: pageSize})
	}
	for name, row := range map[string]struct {
		tables, process []x86.Mapping
		most            int // pages tried
	}{
		"no page in common":             {nil, large, 0},
		"a page less than prove a root": {shared[1:], slices.Concat(large, shared), 0},
		"just enough pages":             {shared, slices.Concat(large, shared), maxTries / 2},
	} {
		t.Run(name, func(t *testing.T) {
			tried := 0
			s := Shadow{Tables: pages{of: row.tables}, Process: pages{of: row.process}, Paging: func([]Slot) Paging {
				tried++
				return func(uint64) (uint64, bool) { return 0, false }
			}}
			if slots, ok := s.Slots(); ok || slots != nil {
				t.Errorf("slots %v of a guest without tables", slots)
			}
			if tried > row.most || row.most > 0 && tried < row.most {
				t.Errorf("%d pages tried, want %d", tried, row.most)
			}
		})
	}
}
