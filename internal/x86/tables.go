package x86

import (
	"encoding/binary"
	"sync/atomic"
)

// cached is the number of tables that Tables keep of each level.
const cached = 16

// Tables are paging structures in memory. They are safe for concurrent use.
type Tables struct {
	r      Reader
	format *Format
	root   uint64
	cache  [maxLevels][cached]atomic.Pointer[table]
}

// A table is a page of entries as it lies in memory.
type table struct {
	addr  uint64
	bytes [pageSize]byte
}

// NewTables returns the tables whose highest one lies at the physical address
// root. It reads nothing.
func NewTables(r Reader, f *Format, root uint64) *Tables {
	return &Tables{r: r, format: f, root: root}
}

// Root returns the address of the highest table.
func (t *Tables) Root() uint64 { return t.root }

// Translate finds the entry for addr. Without an error, it maps addr to
// Phys + addr - Addr. With an error, the mapping is the stretch around addr for
// which the error holds.
//
// The error is [ErrNotMapped], [ErrNotCanonical], or an [*EntryError].
func (t *Tables) Translate(addr uint64) (Mapping, error) {
	linear, ok := t.format.linear(addr)
	if !ok {
		return Mapping{Addr: addr, Size: 1}, ErrNotCanonical
	}
	at := t.root
	for level := t.format.Levels; ; level-- {
		m := t.mapping(level, linear)
		tab, err := t.load(level, at)
		if err != nil {
			m.Size *= uint64(t.format.entries(level))
			m.Addr = t.format.extend(linear &^ (m.Size - 1))
			return m, &EntryError{t.format.Name, level, at, 0, err}
		}
		i := int(linear/m.Size) % t.format.entries(level)
		next, leaf, err := t.decode(&m, tab, i)
		if err != nil || leaf {
			return m, err
		}
		at = next
	}
}

// mapping returns the stretch that an entry of the level covers around an
// address.
func (t *Tables) mapping(level int, linear uint64) Mapping {
	size := t.format.cover(level)
	return Mapping{Addr: t.format.extend(linear &^ (size - 1)), Size: size, Level: level}
}

// decode fills m with entry i of a table. If that is no leaf, it returns the
// next table's address.
func (t *Tables) decode(m *Mapping, tab *table, i int) (next uint64, leaf bool, err error) {
	m.Entry = tab.entry(i, t.format.Width)
	next, leaf, err = t.format.Decode(m.Level, m.Entry)
	switch {
	case err == ErrNotMapped:
	case err != nil:
		err = &EntryError{t.format.Name, m.Level, tab.addr + uint64(i*t.format.Width), m.Entry, err}
	case leaf:
		m.Phys = next
	case m.Level == 1: // a decoder that goes on for ever
		err = &EntryError{t.format.Name, m.Level, tab.addr + uint64(i*t.format.Width), m.Entry, ErrReserved}
	}
	return next, leaf, err
}

// load returns the table of a level at addr, from the cache if it is there.
func (t *Tables) load(level int, addr uint64) (*table, error) {
	slot := &t.cache[level-1][mix(addr)%cached]
	if tab := slot.Load(); tab != nil && tab.addr == addr {
		return tab, nil
	}
	tab := new(table)
	if err := tab.read(t, level, addr); err != nil {
		return nil, err
	}
	slot.Store(tab)
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

// mix spreads the bits of x over all of the result (the finalizer of
// MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
