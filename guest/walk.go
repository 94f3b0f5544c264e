package guest

import "iter"

const (
	// maxTables bounds the tables that one walk goes through. That many map
	// 8 TiB in 4 KiB pages, and 4 PiB in 2 MiB pages.
	maxTables = 1 << 22
	// seenTables is how many tables a walk remembers: 512 KiB.
	seenTables = 1 << 15
)

// A walker goes through a tree in order of address. It keeps the tables it is
// in, so that going on where it stopped costs no reads. It is not safe for
// concurrent use.
type walker struct {
	*tree
	tables [5]table // by level - 1
	loaded [5]bool
	budget int
	// seen is where in the address space a table was met first, in the place
	// its address hashes to. It forgets, for memory's sake: a table that
	// points to itself is met again before it is forgotten, and what gets past
	// is bounded by the budget.
	seen []seenTable
}

type seenTable struct {
	key   uint64 // the table's address and its level; 0 for none
	first uint64
}

func newWalker(t *tree) *walker {
	return &walker{tree: t, budget: maxTables, seen: make([]seenTable, seenTables)}
}

// again reports whether the table was met before at another address than base.
func (w *walker) again(at, base uint64, level int) bool {
	key := at | uint64(level)
	s := &w.seen[mix(key)%seenTables]
	if s.key == key {
		return s.first != base
	}
	*s = seenTable{key, base}
	return false
}

// walk gives what is mapped from lo up to hi, whole entries, in order. With an
// error the mapping is the stretch that the error holds for; entries that are
// simply not there are passed over. After [ErrTooManyTables] nothing follows.
func (w *walker) walk(lo, hi uint64) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		w.down(w.levels, w.root, 0, lo, min(hi, w.end()), yield)
	}
}

// down walks the table at, which maps from base on.
func (w *walker) down(level int, at, base, lo, hi uint64, yield func(Mapping, error) bool) bool {
	size := cover(level)
	whole := Mapping{Addr: base, Size: size * entries, level: level}
	fail := func(err error) bool { return yield(whole, &EntryError{w.name, level, at, 0, err}) }
	switch tab := &w.tables[level-1]; {
	case w.again(at, base, level):
		return fail(ErrTableAgain)
	case w.loaded[level-1] && tab.addr == at:
	case w.budget == 0:
		fail(ErrTooManyTables)
		return false
	default:
		w.budget--
		err := tab.read(w.r, at)
		if w.loaded[level-1] = err == nil; err != nil {
			return fail(err)
		}
	}
	first := uint64(0)
	if lo > base {
		first = (lo - base) / size
	}
	for i := first; i < entries; i++ {
		m := Mapping{Addr: base + i*size, Size: size, Entry: w.tables[level-1].entry[i], level: level}
		if m.Addr >= hi {
			break
		}
		next, leaf, err := w.decode(level, m.Entry)
		more := true
		switch {
		case err == ErrNotMapped:
		case err != nil:
			more = yield(m, &EntryError{w.name, level, at + 8*i, m.Entry, err})
		case leaf:
			m.Phys = next
			more = yield(m, nil)
		default:
			more = w.down(level-1, next, m.Addr, lo, hi, yield)
		}
		if !more {
			return false
		}
	}
	return true
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
