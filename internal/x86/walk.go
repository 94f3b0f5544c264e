package x86

import "iter"

const (
	// maxTables bounds the tables that one walk reads. That many map 8 TiB
	// in 4 KiB pages, and 4 PiB in 2 MiB pages.
	maxTables = 1 << 22
	// seenTables is the number of tables that a long walk remembers, 512 KiB. A
	// walk begins with fewSeen: most guests have few tables, and a host can
	// have thousands of guests.
	seenTables = 1 << 15
	fewSeen    = 1 << 10
)

// A Walker lists mappings in order of address. It keeps the tables it is in, so
// that it costs no reads to go on where it stopped. It is not safe for
// concurrent use.
type Walker struct {
	*Tables
	tables [maxLevels]table // the tables that the walk is in, by level - 1
	loaded [maxLevels]bool  // which of them are
	budget int
	lo, hi uint64 // without sign extension; hi is the last byte
	yield  func(Mapping, error) bool
	// seen holds where each table was met first, at the hash of its address.
	// It forgets tables, to bound memory. A table that points to itself is met
	// again before it is forgotten; the budget bounds other loops.
	seen []seenTable
	met  int // how many were put into seen
}

type seenTable struct {
	key   uint64 // the table's address and its level; 0 for none
	first uint64
}

// Walker returns a new walker over the tables.
func (t *Tables) Walker() *Walker {
	return &Walker{Tables: t, budget: maxTables, seen: make([]seenTable, fewSeen)}
}

// Mappings returns all mappings in order of address. With an error, the mapping
// is the stretch for which the error holds; entries that are not present are
// left out. The walk is bounded: after [ErrTooManyTables] nothing follows.
func (t *Tables) Mappings() iter.Seq2[Mapping, error] {
	return t.MappingsIn(0, t.format.Size()-1)
}

// MappingsIn is [Tables.Mappings] for the addresses from lo to last; see
// [Walker.In].
func (t *Tables) MappingsIn(lo, last uint64) iter.Seq2[Mapping, error] {
	return t.Walker().In(lo, last)
}

// In is [Tables.Mappings] for the addresses from lo to last. In a signed format
// sign extension does not matter. Walks with the same Walker share its bound.
func (w *Walker) In(lo, last uint64) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		end := w.format.Size() - 1
		if w.format.Signed {
			lo, last = lo&end, last&end
		}
		if last = min(last, end); lo > last {
			return
		}
		w.lo, w.hi, w.yield = lo, last, yield
		w.table(w.format.Levels, w.root, 0)
	}
}

// table walks the table at, which maps from base on.
func (w *Walker) table(level int, at, base uint64) bool {
	size, n := w.format.cover(level), w.format.entries(level)
	if err := w.enter(level, at, base); err != nil {
		return w.yield(w.format.mappingOfTable(level, base), &EntryError{w.format.Name, level, at, 0, err}) && err != ErrTooManyTables
	}
	first := 0
	if w.lo > base {
		first = int((w.lo - base) / size)
	}
	for i := first; i < n; i++ {
		addr := base + uint64(i)*size
		if addr > w.hi {
			break
		}
		m := Mapping{Addr: addr, Size: size, Level: level, Entry: w.tables[level-1].entry(i, w.format.Width)}
		if w.format.Signed {
			m.Addr = w.format.extend(addr)
		}
		next, leaf, err := w.format.decode(&m, at, i)
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

// enter makes the table at the one that the walk is in.
func (w *Walker) enter(level int, at, base uint64) error {
	tab, loaded := &w.tables[level-1], &w.loaded[level-1]
	switch {
	case w.again(at, base, level):
		return ErrTableAgain
	case *loaded && tab.addr == at:
		return nil
	case w.budget == 0:
		return ErrTooManyTables
	}
	w.budget--
	err := tab.read(w.Tables, level, at)
	*loaded = err == nil
	return err
}

// again reports whether the table was met before at another address.
func (w *Walker) again(at, base uint64, level int) bool {
	key := at&^7 | uint64(level)
	s := w.place(key)
	if s.key == key {
		return s.first != base
	}
	*s = seenTable{key, base}
	if w.met++; w.met > len(w.seen)/4 && len(w.seen) < seenTables {
		old := w.seen
		w.seen = make([]seenTable, 4*len(old))
		for _, s := range old {
			*w.place(s.key) = s
		}
	}
	return false
}

// place returns where a table is remembered.
func (w *Walker) place(key uint64) *seenTable { return &w.seen[Mix(key)%uint64(len(w.seen))] }
