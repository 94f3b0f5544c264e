package vmcs

import (
	"encoding/binary"
	"iter"
	"sync/atomic"
	"testing"

	"vmcsnote/physmem"
)

// patterned is memory without bounds. Each page begins with first, second.
type patterned struct {
	first  func(page uint64) uint32
	second uint32
	size   uint64
	read   *atomic.Int64 // pages read whole
}

func (m patterned) Ranges() iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) { yield(physmem.Range{Size: m.size}) }
}

func (m patterned) ReadPhys(p []byte, addr uint64) (int, error) {
	clear(p)
	for off := 0; off+PageSize <= len(p); off += PageSize {
		m.read.Add(1)
		binary.LittleEndian.PutUint32(p[off:], m.first((addr+uint64(off))/PageSize))
		binary.LittleEndian.PutUint32(p[off+4:], m.second)
	}
	return len(p), nil
}

// TestSieve: what a layout may explain is looked at, and no more than that, if
// the sieve can tell.
func TestSieve(t *testing.T) {
	const pages = 1 << 16
	note := func(id uint32) []FoundNote {
		l := loadNote(t, "vmx/hsw-default").clone()
		l.RevisionID = id
		return []FoundNote{{Layout: l}}
	}
	one := func(n uint64) func(uint64) uint32 {
		return func(page uint64) uint32 {
			if page%100 == 7 {
				return uint32(n)
			}
			return 0
		}
	}
	for _, tt := range []struct {
		name    string
		first   func(page uint64) uint32
		second  uint32
		pages   uint64
		found   []FoundNote
		kept    uint64 // pages that Find reads
		matched uint64
	}{
		{name: "nothing", first: one(0), pages: pages},
		{name: "a built-in layout's", first: one(uint64(Builtin()[0].RevisionID)), pages: pages, kept: 656, matched: 656},
		{name: "that, whatever follows", first: one(uint64(Builtin()[0].RevisionID)), second: 1 << 30, pages: pages, kept: 656, matched: 656},
		{name: "a note's", first: one(0x7ab), second: 3, pages: pages, found: note(0x7ab), kept: 656, matched: 656},
		{name: "a small number before a large one", first: one(0x7ab), second: 16, pages: pages},
		{name: "a large number", first: one(0x7ab0_0000), pages: pages},
		{name: "a note's that is large: all is read", first: one(0x7ab0_0000), pages: pages, found: note(0x7ab0_0000), kept: pages, matched: 656},
		{name: "a note's that is unknown: all is read", first: one(0x7ab), pages: pages, found: note(0), kept: pages, matched: pages - 656},
		{name: "more than can be kept: all is read", first: func(uint64) uint32 { return 0x7ab }, pages: maxSieve + 1, found: note(0x7ab), kept: maxSieve + 1, matched: maxSieve + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := patterned{tt.first, tt.second, tt.pages * PageSize, new(atomic.Int64)}
			sieve := sieveOf(t, m)
			m.read.Store(0)
			res, err := Find(t.Context(), m, Search{Found: tt.found, Sieve: sieve})
			if err != nil {
				t.Fatal(err)
			}
			if got := uint64(m.read.Load()); got != tt.kept || res.Pages != tt.pages || res.Matched != tt.matched {
				t.Errorf("%d pages read of %d, %d matched; want %d and %d", got, res.Pages, res.Matched, tt.kept, tt.matched)
			}
		})
	}
}
