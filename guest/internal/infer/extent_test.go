package infer

import (
	"iter"
	"slices"
	"testing"

	"vmcsnote/internal/x86"
)

// A noise is a process that has pages here and there.
type noise uint64

func (noise) End() uint64 { return 1 << 47 }

// Translate finds 2 MiB that are mapped, swapped out or neither.
func (n noise) Translate(hva uint64) (x86.Mapping, error) {
	h := x86.Mix(uint64(n) ^ x86.Mix(hva>>21))
	m := x86.Mapping{Addr: hva &^ (2<<20 - 1), Size: 2 << 20, Phys: h >> 30 << 21}
	return m, []error{nil, x86.ErrSwapped, x86.ErrNotMapped, x86.ErrReserved}[h%4]
}

func (noise) Mappings() iter.Seq2[x86.Mapping, error] {
	return func(func(x86.Mapping, error) bool) {}
}

// Slots hold their runs, and share no address of the guest, and none of the
// process unless the runs do.
func FuzzExtend(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(9))
	f.Add(uint64(2), uint8(12), uint8(0))
	f.Add(uint64(3), uint8(7), uint8(21))
	f.Fuzz(func(t *testing.T, seed uint64, count, align uint8) {
		proc := noise(seed)
		var runs []run
		gpa := uint64(0)
		for i := range uint64(count % 16) {
			h := x86.Mix(seed ^ x86.Mix(i))
			unit := uint64(pageSize) << (align % 24)
			r := run{lo: gpa + h%8*pageSize, pages: 1}
			r.hi = r.lo + (h>>8%64+1)*pageSize
			r.delta = (h>>16%(1<<35))&^(unit-1) - r.lo&^(unit-1)
			if end := r.hi + r.delta; end > proc.End() || end < r.hi-r.lo {
				continue
			}
			runs = append(runs, r)
			gpa = r.hi
		}
		slots := extend(runs, proc)
		held := make([][]run, len(slots)) // the rest is RAM that only the process has
		for _, r := range runs {
			i := slices.IndexFunc(slots, func(s Slot) bool {
				return s.GPA <= r.lo && r.hi <= s.GPA+s.Size && s.HVA-s.GPA == r.delta
			})
			if i < 0 {
				t.Fatalf("no slot of run %#x: %#x", r, slots)
			}
			held[i] = append(held[i], r)
		}
		for i, s := range slots {
			if s.Size == 0 || s.GPA+s.Size > x86.EPTEnd || (s.GPA|s.Size|s.HVA)%pageSize != 0 {
				t.Fatalf("slot %#x", s)
			}
			if i > 0 && slots[i-1].GPA+slots[i-1].Size > s.GPA {
				t.Fatalf("slots %#x and %#x overlap", slots[i-1], s)
			}
			for j, o := range slots[:i] {
				if s.HVA < o.HVA+o.Size && o.HVA < s.HVA+s.Size && !alias(held[i], held[j]) {
					t.Fatalf("slots %#x and %#x share addresses of the process", s, o)
				}
			}
		}
	})
}

// alias reports whether runs share addresses of the process.
func alias(a, b []run) bool {
	return slices.ContainsFunc(a, func(r run) bool {
		return slices.ContainsFunc(b, func(o run) bool { return r.lo+r.delta < o.hi+o.delta && o.lo+o.delta < r.hi+r.delta })
	})
}
