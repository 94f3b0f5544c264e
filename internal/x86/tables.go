package x86

import (
	"encoding/binary"
	"sync/atomic"

	"vmcsnote/physmem"
)

// cached is the number of tables that Tables keep of each level.
const cached = 16

// Tables are paging structures in memory. They are safe for concurrent use.
type Tables struct {
	r      physmem.Reader
	format *Format
	root   uint64
	cache  [maxLevels][cached]atomic.Pointer[table]
}

// A table is a page of entries as it lies in memory.
type table struct {
	addr  uint64
	first uint64 // of level 1 in a cache: the first address that it maps
	bytes [PageSize]byte
}

// NewTables returns the tables whose highest one lies at the physical address
// root. It reads nothing.
func NewTables(r physmem.Reader, f *Format, root uint64) *Tables {
	return &Tables{r: r, format: f, root: root}
}

// Reopen returns the same tables, without those that were read: goroutines that
// go through different addresses are in each other's way with one cache.
func (t *Tables) Reopen() *Tables { return NewTables(t.r, t.format, t.root) }

// Root returns the address of the highest table.
func (t *Tables) Root() uint64 { return t.root }

// Format returns the format of the tables.
func (t *Tables) Format() *Format { return t.format }

// Translate finds the entry for addr. Without an error, it maps addr to
// Phys + addr - Addr. With an error, the mapping is the stretch around addr for
// which the error holds.
//
// The error is [ErrNotMapped], [ErrNotCanonical], or an [*EntryError].
func (t *Tables) Translate(addr uint64) (Mapping, error) {
	// Of addresses close to each other, all but the first need one entry.
	first := addr &^ (t.format.cover(2) - 1)
	lowest := &t.cache[0][Mix(first)%cached]
	if tab := lowest.Load(); tab != nil && tab.first == first {
		i := int(addr-first) / PageSize
		m := Mapping{Addr: addr &^ (PageSize - 1), Size: PageSize, Entry: tab.entry(i, t.format.Width), Level: 1}
		_, _, err := t.format.decode(&m, tab.addr, i)
		return m, err
	}
	return t.format.descend(t.root, addr, func(level int, at uint64, i int) (uint64, error) {
		tab, err := t.load(level, at)
		if err != nil {
			return 0, err
		}
		if level == 1 {
			tab.first = first
			lowest.Store(tab)
		}
		return tab.entry(i, t.format.Width), nil
	})
}

// Translate is [Tables.Translate] for a single address. It reads the entries
// that it needs and nothing else.
func (f *Format) Translate(r physmem.Reader, root, addr uint64) (Mapping, error) {
	return f.descend(root, addr, func(_ int, at uint64, i int) (uint64, error) {
		var b [8]byte
		_, err := r.ReadPhys(b[:f.Width], at+uint64(i*f.Width))
		return binary.LittleEndian.Uint64(b[:]), err
	})
}

// descend finds the entry for addr. The function entry returns entry i of the
// table of a level at an address.
func (f *Format) descend(at, addr uint64, entry func(level int, at uint64, i int) (uint64, error)) (Mapping, error) {
	linear, ok := f.linear(addr)
	if !ok {
		return f.hole(), ErrNotCanonical
	}
	for level := f.Levels; ; level-- {
		m := f.mapping(level, linear)
		i := int(linear/m.Size) % f.entries(level)
		var err error
		if m.Entry, err = entry(level, at, i); err != nil {
			m = f.mappingOfTable(level, linear)
			if f.Signed && level == f.Levels { // the half that addr is in: they are far apart
				m.Size /= 2
				m.Addr = addr &^ (m.Size - 1)
			}
			return m, &EntryError{f.Name, level, at + uint64(i*f.Width), 0, err}
		}
		next, leaf, err := f.decode(&m, at, i)
		if err != nil || leaf {
			return m, err
		}
		at = next
	}
}

// mapping returns the stretch that an entry of the level covers around an
// address.
func (f *Format) mapping(level int, linear uint64) Mapping {
	size := f.cover(level)
	return Mapping{Addr: f.extend(linear &^ (size - 1)), Size: size, Level: level}
}

// mappingOfTable returns the stretch that a table of the level covers around an
// address.
func (f *Format) mappingOfTable(level int, linear uint64) Mapping {
	size := f.cover(level) * uint64(f.entries(level))
	return Mapping{Addr: f.extend(linear &^ (size - 1)), Size: size, Level: level}
}

// decode completes m, which is entry i of the table at addr. If that is no
// leaf, it returns the next table's address.
func (f *Format) decode(m *Mapping, addr uint64, i int) (next uint64, leaf bool, err error) {
	next, leaf, err = f.Decode(m.Level, m.Entry&^f.Encrypted)
	switch {
	case err == ErrNotMapped:
	case err == nil && leaf:
		m.Phys = next
	case err == nil && m.Level == 1: // a decoder that goes on for ever
		err = ErrReserved
		fallthrough
	case err != nil:
		err = &EntryError{f.Name, m.Level, addr + uint64(i*f.Width), m.Entry, err}
	}
	return next, leaf, err
}

// Forget drops the tables that were kept since they were read.
func (t *Tables) Forget() {
	for level := range t.cache {
		for i := range t.cache[level] {
			t.cache[level][i].Store(nil)
		}
	}
}

// load returns the table of a level at addr, from the cache if it is there.
// Those of level 1 are kept by what they map, which is for Translate to do.
func (t *Tables) load(level int, addr uint64) (*table, error) {
	slot := &t.cache[level-1][Mix(addr)%cached]
	if tab := slot.Load(); level > 1 && tab != nil && tab.addr == addr {
		return tab, nil
	}
	tab := new(table)
	if err := tab.read(t, level, addr); err != nil {
		return nil, err
	}
	if level > 1 {
		slot.Store(tab)
	}
	return tab, nil
}

// read fills tab with the table of a level at addr.
func (tab *table) read(t *Tables, level int, addr uint64) error {
	tab.addr = addr
	_, err := t.r.ReadPhys(tab.bytes[:t.format.entries(level)*t.format.Width], addr)
	return err
}

func (tab *table) entry(i, width int) uint64 {
	if width == 4 {
		return uint64(binary.LittleEndian.Uint32(tab.bytes[4*i:]))
	}
	return binary.LittleEndian.Uint64(tab.bytes[8*i:])
}

// Mix spreads the bits of x over all of the result (the finalizer of
// MurmurHash3).
func Mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
