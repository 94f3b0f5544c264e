package x86

import (
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"
)

// memory is tables by address: index of the entry to its value.
type memory map[uint64]map[int]uint64

func (m memory) ReadPhys(p []byte, addr uint64) (int, error) {
	tab, ok := m[addr&^0xfff]
	if !ok {
		return 0, errors.New("no such memory")
	}
	clear(p)
	for i, e := range tab {
		if off := 8*i - int(addr&0xfff); off >= 0 && off+8 <= len(p) {
			binary.LittleEndian.PutUint64(p[off:], e)
		}
	}
	return len(p), nil
}

// page32 is 32-bit paging with CR4.PSE, ept is EPT of 4 levels: formats that
// other packages need.
var (
	page32 = &Format{Name: "32-bit page table", Levels: 2, Width: 4, Decode: func(level int, e uint64) (uint64, bool, error) {
		switch {
		case e&present == 0:
			return 0, false, ErrNotMapped
		case level == 2 && e&large != 0:
			return e&0xffc00000 | e>>13&0xff<<32, true, nil
		}
		return e & 0xfffff000, level == 1, nil
	}}
	pae = &Format{Name: "PAE page table", Levels: 3, Width: 8, Root: 4, Decode: decodePage}
	ept = &Format{Name: "EPT", Levels: 4, Width: 8, Decode: func(level int, e uint64) (uint64, bool, error) {
		if e&7 == 0 {
			return 0, false, ErrNotMapped
		}
		return e & AddrMask, level == 1 || e&large != 0, nil
	}}
)

func TestTranslate(t *testing.T) {
	tests := []struct {
		name   string
		mem    memory
		format *Format
		root   uint64
		addr   uint64
		phys   uint64
		size   uint64
		err    error
	}{
		{name: "4 KiB", format: Pages(4), root: 0x1000, addr: 0x123, phys: 0x7123, size: 0x1000,
			mem: memory{0x1000: {0: 0x2001}, 0x2000: {0: 0x3001}, 0x3000: {0: 0x4001}, 0x4000: {0: 0x7001}}},
		{name: "2 MiB with PAT", format: Pages(4), root: 0x1000, addr: 0xffffffff80200123, phys: 0x600123, size: 2 << 20,
			mem: memory{0x1000: {511: 0x2001}, 0x2000: {510: 0x3001}, 0x3000: {1: 0x601081}}},
		{name: "1 GiB", format: Pages(4), root: 0x1000, addr: 0xffff888040000010, phys: 0x80000010, size: 1 << 30,
			mem: memory{0x1000: {273: 0x2001}, 0x2000: {1: 0x80000081}}},
		{name: "5 levels", format: Pages(5), root: 0x1000, addr: 0xff11000000000010, phys: 0x40000010, size: 1 << 30,
			mem: memory{0x1000: {273: 0x2001}, 0x2000: {0: 0x3001}, 0x3000: {0: 0x40000081}}},
		{name: "not canonical", format: Pages(4), root: 0x1000, addr: 1 << 47, err: ErrNotCanonical},
		{name: "not present", format: Pages(4), root: 0x1000, addr: 5, err: ErrNotMapped, mem: memory{0x1000: {1: 0x2001}}},
		{name: "large at level 4", format: Pages(4), root: 0x1000, addr: 5, err: ErrReserved, mem: memory{0x1000: {0: 0x2081}}},
		{name: "table that is its own", format: Pages(4), root: 0x1000, addr: 0, phys: 0x1000, size: 0x1000,
			mem: memory{0x1000: {0: 0x1001}}},
		{name: "PAE", format: pae, root: 0x1020, addr: 0xc0200010, phys: 0x200010, size: 2 << 20,
			mem: memory{0x1000: {7: 0x2001}, 0x2000: {1: 0x200081}}},
		{name: "PAE above 4 GiB", format: pae, root: 0x1020, addr: 1 << 32, err: ErrNotCanonical},
		{name: "32-bit", format: page32, root: 0x1000, addr: 0x400008, phys: 0x9008, size: 0x1000,
			mem: memory{0x1000: {0: 0x2001 << 32}, 0x2000: {0: 0x9001}}},
		{name: "PSE-36", format: page32, root: 0x1000, addr: 0x400008, phys: 0x3_00400008, size: 4 << 20,
			mem: memory{0x1000: {0: 0x00406081 << 32}}},
		{name: "EPT above half", format: ept, root: 0x1000, addr: 1 << 47, phys: 0x40000000, size: 1 << 30,
			mem: memory{0x1000: {256: 0x2007}, 0x2000: {0: 0x40000087}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := NewTables(test.mem, test.format, test.root).Translate(test.addr)
			if !errors.Is(err, test.err) || test.err == nil && err != nil {
				t.Fatalf("error is %v, want %v", err, test.err)
			}
			if got := m.Phys + test.addr - m.Addr; err == nil && (got != test.phys || m.Size != test.size) {
				t.Errorf("%#x (%#x bytes), want %#x (%#x)", got, m.Size, test.phys, test.size)
			}
		})
	}
}

func TestTranslateMissingTable(t *testing.T) {
	m, err := NewTables(memory{0x1000: {511: 0x2001}}, Pages(4), 0x1000).Translate(0xffffffff_80000000)
	var e *EntryError
	if !errors.As(err, &e) || e.Level != 3 || e.Addr != 0x2000 {
		t.Errorf("error is %v", err)
	}
	if m.Addr != 0xffffff80_00000000 || m.Size != 512<<30 {
		t.Errorf("the error holds for %#x, %#x bytes", m.Addr, m.Size)
	}
}

func TestMappings(t *testing.T) {
	mem := memory{
		0x1000: {0: 0x2001, 511: 0x2001},
		0x2000: {1: 0x40000081, 2: 0x3001, 3: 0x9001},
		0x3000: {0: 0x600081, 511: 0x4001},
		0x4000: {0: 0x7001, 5: 0x8001},
	}
	type got struct {
		addr, size uint64
		err        error
	}
	list := func(tables *Tables, lo, hi uint64) (all []got) {
		for m, err := range tables.MappingsIn(lo, hi) {
			var e *EntryError
			if errors.As(err, &e) {
				err = e.Err
			}
			all = append(all, got{m.Addr, m.Size, err})
		}
		return all
	}
	tables := NewTables(mem, Pages(4), 0x1000)
	all := list(tables, 0, 1<<48-1)
	want := []got{{1 << 30, 1 << 30, nil}, {2 << 30, 2 << 20, nil}, {3<<30 - 2<<20, 4096, nil}, {3<<30 - 2<<20 + 5*4096, 4096, nil}}
	for i, w := range want {
		if i >= len(all) || all[i] != w {
			t.Fatalf("mapping %d of %v, want %v", i, all, w)
		}
	}
	if last := all[len(all)-1]; last.err != ErrTableAgain || last.addr != 0xffffff80_00000000 {
		t.Errorf("the table that is there twice: %v", last)
	}
	if len(all) != 6 { // the missing table, and the table that is there twice
		t.Errorf("%d mappings: %v", len(all), all)
	}
	if some := list(tables, 2<<30+2<<20, 3<<30-2<<20); len(some) != 1 || some[0] != want[2] {
		t.Errorf("a part: %v", some)
	}
}

// A table all of whose entries are itself maps 2^36 pages.
func TestMappingsBounded(t *testing.T) {
	tab := map[int]uint64{}
	for i := range 512 {
		tab[i] = 0x1001
	}
	n := 0
	for range NewTables(memory{0x1000: tab}, Pages(4), 0x1000).Mappings() {
		n++
	}
	if n > 2048 {
		t.Errorf("%d mappings", n)
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte{1, 0x10, 0, 0, 0, 0, 0, 0}, uint64(0), uint8(0))
	f.Add([]byte{0x81, 0, 0x20, 0, 0, 0, 0, 0}, uint64(1)<<40, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64, kind uint8) {
		formats := []*Format{Pages(4), Pages(5), pae, page32, ept}
		tables := NewTables(repeat(b), formats[int(kind)%len(formats)], 0)
		tables.Translate(addr)
		n := 0
		for range tables.Mappings() {
			if n++; n > 10000 {
				break
			}
		}
	})
}

// repeat is memory full of the same bytes.
type repeat []byte

func (r repeat) ReadPhys(p []byte, addr uint64) (int, error) {
	if len(r) == 0 {
		return 0, errors.New("nothing")
	}
	for i := range p {
		p[i] = r[(addr+uint64(i))%uint64(len(r))]
	}
	return len(p), nil
}
