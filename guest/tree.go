package guest

import (
	"encoding/binary"
	"sync/atomic"
)

const (
	pageSize = 4096
	entries  = 512 // in a table of 8-byte entries

	// addrMask is bits 51:12, where an entry holds an address: no x86
	// processor has more physical address bits.
	addrMask = 1<<52 - pageSize
)

// A Mapping is a stretch of addresses that one entry maps, or leaves unmapped.
type Mapping struct {
	Addr  uint64 // of the first byte, in the space that is translated from
	Phys  uint64 // of the same byte, in the space translated to; 0 if unmapped
	Size  uint64 // bytes: what an entry of this level covers
	Entry uint64 // as it is in its table; 0 if it could not be read
	level int    // of the entry's table
}

// cover is the addresses that one entry of a level covers, in bytes: 4 KiB at
// level 1, 512 times as many at each above.
func cover(level int) uint64 { return 1 << (12 + 9*(level-1)) }

// A tree is paging structures of 64-bit entries, 512 to a table: EPT, or page
// tables of 4 or 5 levels.
type tree struct {
	r      Reader
	name   string // for errors
	root   uint64
	levels int
	decode decoder
	// cache has the tables of lookups: those of each level have a part of it to
	// themselves, so that addresses in a row find theirs there.
	cache [5][16]atomic.Pointer[table]
}

// A decoder says what an entry of a level is: a leaf with the address mapped, or
// the address of the next table; err, if it is neither.
type decoder func(level int, entry uint64) (addr uint64, leaf bool, err error)

// A table is a page of entries.
type table struct {
	addr  uint64
	entry [entries]uint64
}

// read fills t with the table at addr.
func (t *table) read(r Reader, addr uint64) error {
	var page [pageSize]byte
	if _, err := r.ReadPhys(page[:], addr); err != nil {
		return err
	}
	t.addr = addr
	for i := range t.entry {
		t.entry[i] = binary.LittleEndian.Uint64(page[8*i:])
	}
	return nil
}

// load gives the table of a level at addr, out of the cache if it is there.
func (t *tree) load(level int, addr uint64) (*table, error) {
	slot := &t.cache[level-1][mix(addr)%uint64(len(t.cache[0]))]
	if tab := slot.Load(); tab != nil && tab.addr == addr {
		return tab, nil
	}
	tab := new(table)
	if err := tab.read(t.r, addr); err != nil {
		return nil, err
	}
	slot.Store(tab)
	return tab, nil
}

// end is the first address that the tree cannot map. A root of the third level is
// that of PAE paging, with four entries.
func (t *tree) end() uint64 {
	if t.levels == 3 {
		return 4 << 30
	}
	return cover(t.levels + 1)
}

// lookup finds what maps addr. With an error, the mapping has the stretch
// around addr that the error holds for.
func (t *tree) lookup(addr uint64) (Mapping, error) {
	if addr >= t.end() {
		return Mapping{Addr: t.end(), Size: -t.end()}, ErrNotMapped
	}
	at := t.root
	for level := t.levels; ; level-- {
		size := cover(level)
		m := Mapping{Addr: addr &^ (size - 1), Size: size, level: level}
		i := addr / size % entries
		tab, err := t.load(level, at)
		if err != nil {
			m.Size *= entries
			m.Addr = addr &^ (m.Size - 1)
			return m, &EntryError{t.name, level, at + 8*i, 0, err}
		}
		m.Entry = tab.entry[i]
		next, leaf, err := t.decode(level, m.Entry)
		switch {
		case err == ErrNotMapped:
			return m, err
		case err != nil:
			return m, &EntryError{t.name, level, at + 8*i, m.Entry, err}
		case leaf:
			m.Phys = next
			return m, nil
		}
		at = next
	}
}
