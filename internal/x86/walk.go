package x86

import "iter"

const (
	// maxTables bounds the tables that one walk reads. That many map 8 TiB
	// in 4 KiB pages.
	maxTables = 1 << 22
	// seenTables is the number of tables that a walk remembers, 512 KiB.
	seenTables = 1 << 15
)

// A walk lists mappings in order of address.
type walk struct {
	*Tables
	tables [maxLevels]table // the tables that the walk is in, by level - 1
	budget int
	lo, hi uint64 // without sign extension; hi is the last byte
	yield  func(Mapping, error) bool
	// seen is where a table was met first, in the place its address hashes
	// to. To bound memory it forgets; a table that points to itself is met
	// again before it is forgotten, and the budget bounds the rest.
	seen []seenTable
}

type seenTable struct {
	key   uint64 // the table's address and its level; 0 for none
	first uint64
}

// Mappings returns all mappings in order of address. With an error, the mapping
// is the stretch for which the error holds; entries that are not present are
// left out. The walk is bounded: after [ErrTooManyTables] nothing follows.
func (t *Tables) Mappings() iter.Seq2[Mapping, error] {
	return t.MappingsIn(0, t.format.size()-1)
}

// MappingsIn is [Tables.Mappings] for the addresses from lo to last. Sign
// extension does not matter.
func (t *Tables) MappingsIn(lo, last uint64) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		mask := t.format.size() - 1
		w := &walk{Tables: t, budget: maxTables, lo: lo & mask, hi: last & mask,
			yield: yield, seen: make([]seenTable, seenTables)}
		w.table(t.format.Levels, t.root, 0)
	}
}

// table walks the table at, which maps from base on.
func (w *walk) table(level int, at, base uint64) bool {
	size, n := w.format.cover(level), w.format.entries(level)
	tab := &w.tables[level-1]
	var err error
	switch {
	case w.again(at, base, level):
		err = ErrTableAgain
	case w.budget == 0:
		err = ErrTooManyTables
	default:
		w.budget--
		err = tab.read(w.Tables, level, at)
	}
	if err != nil {
		m := w.mapping(level, base)
		m.Size *= uint64(n)
		return w.yield(m, &EntryError{w.format.Name, level, at, 0, err}) && err != ErrTooManyTables
	}
	for i := range n {
		addr := base + uint64(i)*size
		if addr+(size-1) < w.lo {
			continue
		}
		if addr > w.hi {
			break
		}
		m := w.mapping(level, addr)
		next, leaf, err := w.decode(&m, tab, i)
		more := true
		switch {
		case err == ErrNotMapped:
		case err != nil || leaf:
			more = w.yield(m, err)
		default:
			more = w.table(level-1, next, addr)
		}
		if !more {
			return false
		}
	}
	return true
}

// again reports whether the table was met before at another address.
func (w *walk) again(at, base uint64, level int) bool {
	key := at&^7 | uint64(level)
	s := &w.seen[mix(key)%seenTables]
	if s.key == key {
		return s.first != base
	}
	*s = seenTable{key, base}
	return false
}
