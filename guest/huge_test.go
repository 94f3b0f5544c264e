package guest

import (
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A huge is the host of a guest whose pages are scattered over memory, with the
// tables made up as they are read: EPT from 1 << 50 on, the process's from
// 1 << 51 on, those of level n at n << 46. It never has two tables at a time.
type huge struct {
	pages uint64 // of the guest, of 4 KiB: a power of two
	delta uint64
	hole  uint64 // from here on the guest's memory is at 4 GiB and above
	reads atomic.Int64
}

const (
	hugeEPT  = 1 << 50
	hugeProc = 1 << 51
)

// host is where the n-th page of the guest's memory is.
func (h *huge) host(n uint64) uint64 { return (n * 0x9e3779b1 & (h.pages - 1)) * pageSize }

func (h *huge) ReadPhys(p []byte, addr uint64) (int, error) {
	h.reads.Add(1)
	level, table := addr>>46&7, addr&(1<<46-1)/pageSize
	for i := range uint64(x86.Entries) {
		var e uint64
		n := table<<9 | i
		first := n * x86.Cover(int(level)) // what the entry maps
		switch {
		case level > 1:
			if h.any(addr, first, x86.Cover(int(level))) {
				e = addr&(hugeEPT|hugeProc) | (level-1)<<46 | n*pageSize | link
			}
		default:
			if at, ok := h.index(addr, first); ok {
				e = h.host(at) | 0x37
			}
		}
		binary.LittleEndian.PutUint64(p[8*i:], e)
	}
	return len(p), nil
}

// index is which page of the guest's memory is mapped at an address.
func (h *huge) index(space, addr uint64) (uint64, bool) {
	if space&hugeProc != 0 {
		return (addr - h.delta) / pageSize, addr-h.delta < h.pages*pageSize
	}
	if addr >= 4*gib {
		addr -= 4*gib - h.hole
	} else if addr >= h.hole {
		return 0, false
	}
	return addr / pageSize, addr < h.pages*pageSize
}

func (h *huge) any(space, addr, size uint64) bool {
	if space&hugeProc != 0 {
		return addr < h.delta+h.pages*pageSize && h.delta < addr+size
	}
	return addr < h.hole || addr < h.pages*pageSize+4*gib-h.hole && addr+size > 4*gib
}

func (h *huge) open(t testing.TB) *Physical {
	t.Helper()
	m, err := openPhysical(h, memoryConfig{EPTP: hugeEPT | 4<<46 | 0x5e, HostCR3: hugeProc | 4<<46})
	if err != nil {
		t.Fatal(err)
	}
	want := []Slot{
		{GPA: 0, HVA: h.delta, Size: h.hole, Pages: h.hole / pageSize},
		{GPA: 4 * gib, HVA: h.delta + h.hole, Size: h.pages*pageSize - h.hole, Pages: h.pages - h.hole/pageSize},
	}
	if got := fmt.Sprintf("%#x", m.Slots()); got != fmt.Sprintf("%#x", want) {
		t.Errorf("slots %s, want %#x", got, want)
	}
	return m
}

// hugeSize is the size of a guest that has twice as many pages as a sample.
const hugeSize = 512 * mib

// A guest has more pages than a sample: its slots are found all the same, and
// to the page, however many CPUs take part.
func TestHuge(t *testing.T) {
	for _, cpus := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d CPUs", cpus), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
			h := &huge{pages: hugeSize / pageSize, delta: 0x7f00_4000_0000, hole: 384 * mib}
			m := h.open(t)
			if got, want := m.Tally(), (Tally{EPT: hugeSize}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func BenchmarkOpenMemory(b *testing.B) {
	for _, size := range []uint64{16 * gib, 256 * gib} {
		b.Run(fmt.Sprintf("%dGiB", size/gib), func(b *testing.B) {
			for b.Loop() {
				h := &huge{pages: size / pageSize, delta: 0x7000_4000_0000, hole: 3 * gib}
				h.open(b)
				var ms runtime.MemStats
				runtime.ReadMemStats(&ms)
				b.ReportMetric(float64(ms.Sys)/mib, "MiB-sys")
				b.ReportMetric(float64(h.reads.Load()), "tables")
			}
		})
	}
}

// TestExceeds: the count ends at the limit, whatever EPT maps.
func TestExceeds(t *testing.T) {
	h := &huge{pages: hugeSize / pageSize, delta: 0x7f00_4000_0000, hole: 384 * mib}
	m := h.open(t)
	if m.Exceeds(hugeSize) {
		t.Error("a guest of 512 MiB has more than that")
	}
	if !m.Exceeds(hugeSize - pageSize) {
		t.Error("a guest of 512 MiB has no more than a page less")
	}
	before := h.reads.Load()
	if !m.Exceeds(64 * mib) {
		t.Error("a guest of 512 MiB has no more than 64 MiB")
	}
	if reads := h.reads.Load() - before; reads > 64 {
		t.Errorf("%d tables were read for 64 MiB, expected 32 and those above", reads)
	}
}

func TestMaxGuest(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  uint64
		want uint64
	}{
		{"a small host", 4 * gib, 1 << 40},
		{"a host of 64 GiB", 64 * gib, 64 * 64 * gib},
		{"addresses that no host has", 1 << 60, 1<<64 - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Host{Core: endsAt{end: tt.end}}
			if got := h.MaxGuest(); got > tt.want || got < tt.want-63 {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

// endsAt is a dump with a page below an address.
type endsAt struct {
	vmcore.Core
	end uint64
}

func (e endsAt) Ranges() iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) { yield(physmem.Range{Addr: e.end - pageSize, Size: pageSize}) }
}
