package vmcore

import "vmcsnote/vmcore/internal/kdump"

// A Shortfall says which memory is missing from a dump although its writer
// meant the dump to hold it. Pages that a filter left out ([ErrExcluded]) do
// not count.
type Shortfall struct {
	// Truncated: the file ends before what its headers claim.
	Truncated bool
	// Incomplete: makedumpfile marked the dump as unfinished.
	Incomplete bool
	// Pages of a compressed dump were never written, or are cut off, of the
	// Total that its bitmap has.
	Pages, Total uint64
	// Split: pieces of a split dump, or a single one. Lacking are the PFNs
	// that none of them holds.
	Split   bool
	Pieces  []PFNs
	Lacking []PFNs
}

// Partial reports whether memory may be missing.
func (s Shortfall) Partial() bool {
	return s.Truncated || s.Incomplete || s.Pages > 0 || len(s.Lacking) > 0
}

// ShortfallOf says what is missing from the dump. For a compressed dump it
// reads every page descriptor: 24 bytes for each page.
func ShortfallOf(c Core) Shortfall {
	s := Shortfall{Truncated: truncated(c), Incomplete: c.Incomplete()}
	pieces := kdumps(c)
	for _, k := range pieces {
		s.Incomplete = s.Incomplete || k.Incomplete()
		missing, total := k.MissingPages()
		s.Pages, s.Total = s.Pages+missing, s.Total+total
		if k.Split {
			s.Split, s.Pieces = true, append(s.Pieces, k.PFNs())
		}
	}
	if s.Split {
		s.Lacking = lacking(pieces)
	}
	return s
}

// PieceOf returns the PFNs of a piece of a split dump. It is false for every
// other dump.
func PieceOf(c Core) (PFNs, bool) {
	if k := kdumps(c); len(k) == 1 && k[0].Split {
		return k[0].PFNs(), true
	}
	return PFNs{}, false
}

// kdumps returns the compressed dumps that c consists of; nil for other dumps.
func kdumps(c Core) []*kdump.Dump {
	switch c := c.Plain().(type) {
	case kdumpCore:
		return []*kdump.Dump{c.Dump}
	case *SplitDump:
		return c.pieces
	}
	return nil
}
