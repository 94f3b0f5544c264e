package x86

import (
	"encoding/binary"
	"runtime"
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
	var page [PageSize]byte
	for i, e := range tab {
		binary.LittleEndian.PutUint64(page[8*i:], e)
	}
	return copy(p, page[addr&0xfff:]), nil
}

var (
	page32 = Pages32(true)
	pae    = PAE()
	ept    = EPT(4, false)
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
		{name: "NPT above half", format: NPT(4, 0), root: 0x1000, addr: 1 << 47, phys: 0x40000000, size: 1 << 30,
			mem: memory{0x1000: {256: 0x2007}, 0x2000: {0: 0x40000087}}},
		{name: "NPT of 5 levels", format: NPT(5, 0), root: 0x1000, addr: 1 << 56, phys: 0x40000000, size: 2 << 20,
			mem: memory{0x1000: {256: 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 0x4007}, 0x4000: {0: 0x40001087}}},
		{name: "NPT beyond its levels", format: NPT(4, 0), root: 0x1000, addr: 1 << 48, err: ErrNotCanonical},
		{name: "NPT with the C-bit in tables and pages", format: NPT(4, 1<<47), root: 0x1000, addr: 0x10, phys: 0x7010, size: 0x1000,
			mem: memory{0x1000: {0: 1<<47 | 0x2007}, 0x2000: {0: 1<<47 | 0x3007}, 0x3000: {0: 1<<47 | 0x4007}, 0x4000: {0: 1<<47 | 0x7007}}},
		{name: "NPT with the C-bit of another processor", format: NPT(4, 1<<51), root: 0x1000, addr: 0x10, phys: 0x7010, size: 0x1000,
			mem: memory{0x1000: {0: 1<<51 | 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 1<<51 | 0x4007}, 0x4000: {0: 1<<51 | 0x7007}}},
		{name: "NPT without the C-bit", format: NPT(4, 0), root: 0x1000, addr: 0x10, phys: 1<<47 | 0x7010, size: 0x1000,
			mem: memory{0x1000: {0: 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 0x4007}, 0x4000: {0: 1<<47 | 0x7007}}},
		{name: "MMIO in NPT", format: NPT(4, 0), root: 0x1000, addr: 0x10, err: ErrMMIO,
			mem: memory{0x1000: {0: 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 0x4007}, 0x4000: {0: 1<<51 | 0xfee00007}}},
		{name: "MMIO in NPT with the highest C-bit", format: NPT(4, 1<<51), root: 0x1000, addr: 0x10, err: ErrMMIO,
			mem: memory{0x1000: {0: 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 0x4007}, 0x4000: {0: 3<<50 | 0xfee00007}}},
		{name: "large at level 4 of NPT", format: NPT(4, 0), root: 0x1000, addr: 5, err: ErrReserved, mem: memory{0x1000: {0: 0x2087}}},
		{name: "a large page of NPT that is not aligned", format: NPT(4, 0), root: 0x1000, addr: 5, err: ErrReserved,
			mem: memory{0x1000: {0: 0x2007}, 0x2000: {0: 0x3007}, 0x3000: {0: 0x402087}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := NewTables(test.mem, test.format, test.root).Translate(test.addr)
			if one, oneErr := test.format.Translate(test.mem, test.root, test.addr); one != m || !errors.Is(oneErr, test.err) {
				t.Errorf("entry by entry: %#x, %v, want %#x", one, oneErr, m)
			}
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
	if !errors.As(err, &e) || e.Level != 3 || e.Addr != 0x2000+510*8 {
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

// TestTablesRemembered: a table that is met again is told, however many tables
// were met in between; and a walk through few tables takes little memory.
func TestTablesRemembered(t *testing.T) {
	walk := func(n int) (again int, allocated uint64) {
		middle := map[int]uint64{}
		for i := range n {
			middle[i] = uint64(0x4000+i*0x1000) | 1
		}
		middle[n] = middle[0]
		mem := memory{0x1000: {0: 0x2001}, 0x2000: {0: 0x3001}, 0x3000: middle}
		for i := range n {
			mem[uint64(0x4000+i*0x1000)] = map[int]uint64{0: 0x1}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, err := range NewTables(mem, Pages(4), 0x1000).Mappings() {
			var e *EntryError
			if errors.As(err, &e) && e.Err == ErrTableAgain {
				again++
			}
		}
		runtime.ReadMemStats(&after)
		return again, after.TotalAlloc - before.TotalAlloc
	}
	if again, size := walk(4); again != 1 || size > 64<<10 {
		t.Errorf("4 tables: %d were met again, expected 1; %d bytes, expected 64 KiB at most", again, size)
	}
	if again, size := walk(511); again != 1 || size < 64<<10 {
		t.Errorf("511 tables: %d were met again, expected 1; %d bytes: this proves nothing", again, size)
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

// A walk ends after as many tables as it may read.
func TestWalkerBudget(t *testing.T) {
	mem := memory{0x1000: {0: 0x2001}, 0x2000: {0: 0x3001}, 0x3000: {}}
	for i := range Entries {
		table := uint64(0x100000 + i*PageSize)
		mem[0x3000][i] = table | Present
		mem[table] = map[int]uint64{0: 0x5001}
	}
	w := NewTables(mem, Pages(4), 0x1000).Walker()
	w.budget = 100
	n := 0
	var last error
	for _, err := range w.In(0, 1<<48-1) {
		n++
		last = err
	}
	if n != 98 || !errors.Is(last, ErrTooManyTables) {
		t.Errorf("%d mappings, the last with %v", n, last)
	}
	// The walker is still in the last of them: no read is needed.
	for m, err := range w.In(96<<21, 96<<21) {
		if err != nil || m.Phys != 0x5000 {
			t.Errorf("%#x, %v", m, err)
		}
	}
}

// Addresses beyond the tables are one stretch.
func TestBeyond(t *testing.T) {
	for _, tt := range []struct {
		f    *Format
		addr uint64
		want Mapping
	}{
		{EPT(4, false), 1 << 48, Mapping{Addr: 1 << 48, Size: 1<<64 - 1<<48}},
		{EPT(5, false), 1<<64 - 1, Mapping{Addr: 1 << 57, Size: 1<<64 - 1<<57}},
		{Pages(4), 1 << 47, Mapping{Addr: 1 << 47, Size: 1<<64 - 1<<48}},
		{PAE(), 4 << 30, Mapping{Addr: 4 << 30, Size: 1<<64 - 4<<30}},
	} {
		if m, err := NewTables(nil, tt.f, 0).Translate(tt.addr); m != tt.want || err != ErrNotCanonical {
			t.Errorf("%#x: %#x, %v, want %#x", tt.addr, m, err, tt.want)
		}
	}
}

func TestEPTP(t *testing.T) {
	for p, want := range map[EPTP]bool{
		0x1e64f05e: true, 0x1e64f01e: true, 0x1e64f018: true, 0x1e64f066: true, 0x1e64f0de: true,
		0: false, 0x5e: false, 0x1e64f05d: false, 0x1e64f056: false, 0x1e64f06e: false, 0x1e64f15e: false, 1<<52 | 0x105e: false, 1<<64 - 1: false,
	} {
		if p.Valid() != want {
			t.Errorf("%#x: valid %v", uint64(p), p.Valid())
		}
	}
	if p := EPTP(0x1e64f066); p.Levels() != 5 || !p.AccessedDirty() || p.Root() != 0x1e64f000 {
		t.Errorf("%d levels, accessed and dirty flags %v, root %#x", p.Levels(), p.AccessedDirty(), p.Root())
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte{1, 0x10, 0, 0, 0, 0, 0, 0}, uint64(0), uint8(0))
	f.Add([]byte{0x81, 0, 0x20, 0, 0, 0, 0, 0}, uint64(1)<<40, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64, kind uint8) {
		formats := []*Format{Pages(4), Pages(5), pae, page32, ept, NPT(4, 0), NPT(5, 1<<51)}
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
