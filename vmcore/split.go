package vmcore

import (
	"iter"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/internal/inputfile"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/kdump"
)

// A SplitDump is several pieces of one dump that makedumpfile --split wrote,
// each of which holds the pages of a range of PFNs. It is for reading memory:
// its notes, and where they lie, are those of the first piece.
type SplitDump struct {
	Core // the piece of the lowest PFNs

	whole  []Core        // the pieces as they were given
	pieces []*kdump.Dump // sorted by StartPFN
}

// JoinPieces makes one dump of the pieces of a split dump. Errors name the
// pieces by names. It fails if one is not a piece of a split dump, if the
// pieces are not of one dump, or if two of them hold the same PFNs. Pieces may
// be missing: see [ShortfallOf].
func JoinPieces(pieces []Core, names []string) (*SplitDump, error) {
	s := &SplitDump{whole: pieces}
	name := make(map[*kdump.Dump]string)
	for i, c := range pieces {
		k := kdumps(c)
		if len(k) != 1 || !k[0].Split {
			return nil, inputfile.About(names[i], ErrNoPiece)
		}
		name[k[0]] = names[i]
		s.pieces = append(s.pieces, k[0])
	}
	first := s.pieces[0]
	sort.SliceStable(s.pieces, func(i, j int) bool { return s.pieces[i].StartPFN < s.pieces[j].StartPFN })
	for _, k := range s.pieces {
		what, err := first.Differs(k)
		if err != nil {
			return nil, inputfile.About(name[k], err)
		}
		if what != "" {
			return nil, errors.Errorf("%s and %s are pieces of different dumps: their %s differ", name[first], name[k], what)
		}
	}
	for i, k := range s.pieces[1:] {
		if before := s.pieces[i]; k.StartPFN < before.EndPFN {
			return nil, errors.Errorf("%s and %s both hold PFNs %v", name[before], name[k], PFNs{Start: k.StartPFN, End: min(k.EndPFN, before.EndPFN)})
		}
	}
	i := slices.IndexFunc(pieces, func(c Core) bool { return kdumps(c)[0] == s.pieces[0] })
	s.Core = pieces[i]
	return s, nil
}

// lacking returns the PFNs that none of the pieces, sorted, holds.
func lacking(pieces []*kdump.Dump) (none []PFNs) {
	at := uint64(0)
	for _, k := range pieces {
		if k.StartPFN > at {
			none = append(none, PFNs{Start: at, End: k.StartPFN})
		}
		at = max(at, k.EndPFN)
	}
	if end := pieces[0].MaxMapnr; at < end {
		none = append(none, PFNs{Start: at, End: end})
	}
	return none
}

// ReadPhys implements [physmem.Memory].
func (s *SplitDump) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		k := s.piece(at / uint64(s.pieces[0].BlockSize))
		part := p[n:]
		if end := k.EndPFN * uint64(k.BlockSize); at < end {
			part = part[:min(uint64(len(part)), end-at)]
		}
		m, err := k.ReadPhys(part, at)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// piece returns the piece that holds the PFN, or another one, whose ReadPhys
// returns the error.
func (s *SplitDump) piece(pfn uint64) *kdump.Dump {
	i := sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].StartPFN > pfn })
	return s.pieces[max(i-1, 0)]
}

// Ranges implements [physmem.Memory].
func (s *SplitDump) Ranges() iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, k := range s.pieces {
			for r := range k.Ranges() {
				if !yield(r) {
					return
				}
			}
		}
	})
}

// Plain implements [Core]: it returns the dump itself.
func (s *SplitDump) Plain() Core { return s }

// Claimed is beyond the file's end if that of a piece is.
func (s *SplitDump) Claimed() int64 {
	if slices.ContainsFunc(s.whole, truncated) {
		return s.PlainSize() + 1
	}
	return s.Core.Claimed()
}
