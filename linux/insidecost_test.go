package linux_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// maxHeap is what a guest may cost at any time, in bytes.
const maxHeap = 64 << 20

// A weigher is memory that finds out how big the heap becomes while it is read.
type weigher struct {
	physmem.Reader
	reads, bytes int
	peak         uint64
}

func (w *weigher) ReadPhys(p []byte, addr uint64) (int, error) {
	if w.bytes += len(p); w.reads%16 == 0 {
		w.weigh()
	}
	w.reads++
	return w.Reader.ReadPhys(p, addr)
}

func (w *weigher) weigh() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.peak = max(w.peak, m.HeapAlloc)
}

// weigh finds a guest's kernel and looks into it, and checks what it costs. The
// kernel is nil if there is none.
func weigh(t *testing.T, g insideGuest, mem physmem.Reader) (*linux.Kernel, *weigher) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is no longer in use counts little
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	w := &weigher{Reader: mem}
	k, err := linux.Find(w, g.roots())
	if err == nil {
		w.weigh()
		g.look(k)
		for r, err := range k.Log() {
			_, _ = r, err
		}
	}
	w.weigh()
	if cost := 2*w.bytes + 1000*w.reads; cost > linux.MaxCost {
		t.Errorf("%d reads of %d bytes", w.reads, w.bytes)
	}
	if w.peak -= min(w.peak, before.HeapAlloc); w.peak > maxHeap {
		t.Errorf("the heap grew by %d bytes", w.peak)
	}
	return k, w
}

// TestInsideCosts: a real guest costs a fraction of what it may.
func TestInsideCosts(t *testing.T) {
	for _, name := range []string{"6.1", "7.3"} { // the one has the longer search, the other more
		g := openInside(t, name)
		k, w := weigh(t, g, g.mem)
		if k == nil {
			t.Fatal(name)
		}
		if time, kept := k.Cost(); time > linux.MaxCost/3 || kept > linux.MaxRoom/2 {
			t.Errorf("%s: %d units of time of %d, %d bytes of %d", name, time, linux.MaxCost, kept, linux.MaxRoom)
		} else {
			t.Logf("%s: %d units, %d bytes kept, %d reads of %d bytes, the heap grew by %d", name, time, kept, w.reads, w.bytes, w.peak)
		}
	}
}

// A hostileGuest has the page tables of a real one, and in all other memory the
// same page over and over.
type hostileGuest struct {
	real   physmem.Reader
	tables map[uint64]bool
	page   [4096]byte
}

func (h *hostileGuest) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		part := p[n:min(len(p), n+int(4096-at%4096))]
		if h.tables[at&^4095] {
			if _, err := h.real.ReadPhys(part, at); err != nil {
				return n, err
			}
		} else {
			copy(part, h.page[at%4096:])
		}
		n += len(part)
	}
	return n, nil
}

// TestHostileMemory: nothing in memory makes the search for a kernel cost more
// than it may.
func TestHostileMemory(t *testing.T) {
	g := openInside(t, "6.1")
	tables := &recorder{mem: g.mem, pages: map[uint64]bool{}}
	for _, r := range g.roots() {
		for _, cr3 := range []uint64{r.CR3, r.CR3 &^ (1 << 12)} {
			for range x86.NewTables(tables, x86.Pages(r.Levels), cr3&x86.AddrMask).MappingsIn(0xffffffff80000000, 0xffffffffbfffffff) {
			}
		}
	}
	words := func(first, step uint32) (b []byte) {
		for i := range uint32(1024) {
			b = binary.LittleEndian.AppendUint32(b, first+i*step)
		}
		return b
	}
	// What a search takes for kallsyms' token table with its index, after what it
	// takes for markers.
	var table, index []byte
	for i := range 256 {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(table)))
		if i >= '0' && i <= '9' {
			table = append(table, byte(i))
		}
		table = append(table, 0)
	}
	tokens := words(0, 64)[:1024]
	tokens = append(append(append(tokens, table...), make([]byte, 8-len(table)%8)...), index...)
	for _, test := range []struct {
		name  string
		page  []byte
		bytes int // of memory that are read at least
	}{
		{"zeros", nil, 10 << 20},
		{"digits", bytes.Repeat([]byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00"), 200), 1 << 20},
		{"numbers that rise", words(0, 3), 10 << 20},
		{"token tables", tokens, 10 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &hostileGuest{real: g.mem, tables: tables.pages}
			copy(h.page[:], test.page)
			k, w := weigh(t, g, h)
			if k != nil || w.bytes < test.bytes {
				t.Errorf("%v, %d bytes were read", k, w.bytes)
			}
			t.Logf("%d reads of %d bytes, the heap grew by %d", w.reads, w.bytes, w.peak)
		})
	}
}

// TestHostileTables: page tables that lead to themselves end.
func TestHostileTables(t *testing.T) {
	g := openInside(t, "6.1")
	for name, entry := range map[string]uint64{"tables": 0x1, "large pages": 0x81, "constants": 1<<63 | 0x81, "nothing": 0} {
		h := new(hostileGuest)
		for i := range 512 {
			binary.LittleEndian.PutUint64(h.page[8*i:], entry)
		}
		if k, _ := weigh(t, g, h); k != nil {
			t.Errorf("%s: there is a kernel", name)
		}
	}
}

// FuzzInside changes a page that a look at a guest reads. Whatever is in it,
// the look ends before it has cost more than it may.
func FuzzInside(f *testing.F) {
	g := openInside(f, "6.1")
	rec := &recorder{mem: g.mem, pages: map[uint64]bool{}}
	k, err := linux.Find(rec, g.roots())
	if err != nil {
		f.Fatal(err)
	}
	g.look(k)
	pages := slices.Sorted(maps.Keys(rec.pages))
	for _, symbol := range []string{"modules", "init_task", "prb", "__per_cpu_offset", "tk_core", "__start_BTF", "init_top_pgt"} {
		addr, err := k.Symbol(symbol)
		if err != nil {
			f.Fatal(err)
		}
		phys, _, err := k.Phys(addr)
		if err != nil {
			f.Fatal(err)
		}
		page, _ := slices.BinarySearch(pages, phys&^4095)
		f.Add(uint16(page), uint16(phys%4096), []byte{0xff, 0x81, 0, 0x7f}, byte(7))
	}
	f.Fuzz(func(t *testing.T, page, off uint16, b []byte, times byte) {
		b = bytes.Repeat(b[:min(len(b), 64)], 1+int(times)%64)
		k, err := linux.Find(overlay{g.mem, pages[int(page)%len(pages)] + uint64(off%4096), b}, g.roots())
		if err != nil {
			return
		}
		s := g.look(k)
		for range k.Log() {
		}
		for _, v := range s.VCPUs {
			if len(v.Backtrace) > 256 {
				t.Errorf("%d frames", len(v.Backtrace))
			}
		}
		if time, kept := k.Cost(); time > linux.MaxCost+1 || kept > linux.MaxRoom { // -1 is left of a cost that is too much
			t.Errorf("%d units of time, %d bytes", time, kept)
		}
	})
}
