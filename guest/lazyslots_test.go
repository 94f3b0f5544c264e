package guest

import (
	"sync/atomic"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// TestSlotsWhenNeeded: memory that EPT maps is read without inferring slots, in
// as few reads as there are levels of tables, however large the guest is. Only
// what needs the slots goes through all tables, once.
func TestSlotsWhenNeeded(t *testing.T) {
	reads := func(size uint64) (opened, inferred int64) {
		v := newTestVM()
		v.slot(0, 0x7f00_0000_0000, size)
		v.touch(0, size, 1)
		r := &countingReader{Reader: v}
		m, err := openPhysical(r, memoryConfig{EPTP: v.ept | 0x5e, HostCR3: v.cr3 | 0x004})
		if err != nil {
			t.Fatal(err)
		}
		for gpa := uint64(0); gpa < 8*pageSize; gpa += pageSize {
			if _, err := m.Translate(gpa); err != nil {
				t.Fatal(err)
			}
		}
		opened = r.n.Load()
		for range 2 {
			if s := m.Slots(); len(s) != 1 || s[0].Size != size {
				t.Fatalf("slots %v", s)
			}
			inferred = max(inferred, r.n.Load()-opened)
			r.n.Store(opened)
		}
		return opened, inferred
	}
	small, smallAll := reads(16 << 20)
	large, largeAll := reads(32 << 20)
	if small != large || small > 4 {
		t.Errorf("%d reads for a guest of 16 MiB, %d for one of 32 MiB, expected 4 at most", small, large)
	}
	if smallAll < 16 || largeAll < smallAll+8 {
		t.Errorf("%d and %d reads to infer slots: this proves nothing", smallAll, largeAll)
	}
}

// TestQuick: of a machine to be looked at quickly, memory that EPT does not map
// is missing, and nothing is inferred to find it.
func TestQuick(t *testing.T) {
	const size = 16 << 20
	v := newTestVM()
	v.slot(0, 0x7f00_0000_0000, size)
	v.fault(0, size, 1)
	v.touch(0, size/2, 1)
	r := &countingReader{Reader: v}
	mem, err := openPhysical(r, memoryConfig{EPTP: v.ept | 0x5e, HostCR3: v.cr3 | 0x004})
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{memory: mem}
	quick, err := m.Quick().Memory()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := quick.Translate(0); err != nil {
		t.Error(err)
	}
	if _, err := quick.Translate(size - pageSize); !errors.Is(err, ErrNotMapped) {
		t.Errorf("%v, expected that it is not mapped", err)
	}
	if n := r.n.Load(); n > 8 {
		t.Errorf("%d reads, expected those of two walks", n)
	}
	if _, err := mem.Translate(size - pageSize); err != nil {
		t.Errorf("not quickly: %v", err)
	}
	if known := (&Machine{memory: &Physical{slots: mem.Slots()}}); known.Quick() != known {
		t.Error("a machine whose slots are known is another one")
	}
}

// A countingReader counts reads.
type countingReader struct {
	physmem.Reader
	n atomic.Int64
}

func (r *countingReader) ReadPhys(p []byte, addr uint64) (int, error) {
	r.n.Add(1)
	return r.Reader.ReadPhys(p, addr)
}
