package guest

import (
	"context"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A FoundNote is a note found in a host's memory. Any program may have put it
// there.
type FoundNote struct {
	vmcore.Hit
	Layout *vmcs.Layout // nil but for VMCSINFO
	Owner  vmcs.Owner   // of the memory it is in
}

// trustOf orders the owners of memory: no program chooses what the kernel's
// memory holds.
var trustOf = map[vmcs.Owner]int{vmcs.OwnerKernel: 3, vmcs.OwnerUnknown: 2, vmcs.OwnerUser: 1, vmcs.OwnerNone: 0}

// A Survey is what one pass over a host's memory has found.
type Survey struct {
	// Notes are the intact notes of the name and type looked for, the most
	// trusted first. More is how many were left out.
	Notes []FoundNote
	More  int

	core  vmcore.Core
	pages vmcs.Sieve
}

// FindNotes searches a host's memory for notes of a name and type. It also
// records which pages may be VMCSs, for [Survey.FindVMCSs].
func FindNotes(ctx context.Context, c vmcore.Core, name string, typ uint32, opt physmem.ScanOptions) (*Survey, error) {
	s := &Survey{core: c}
	owners := vmcs.NewOwners(c, VMCoreInfo(c))
	notes := vmcore.NewNoteFinder(c, vmcore.NoteSearch{
		Name: name, Type: typ, Order: c.Notes().Order,
		Intact: func(n elfnote.Note) bool {
			_, err := vmcs.ParseNote(n.Desc)
			return err == nil || n.Name != elfnote.VMCSInfo
		},
		Trust: func(addr uint64) int { return trustOf[owners.Of(addr)] },
	})
	lost := opt.Lost
	opt.Lost = func(addr uint64, err error) {
		s.pages.Lost(addr, err)
		if lost != nil && !errors.Is(err, vmcore.ErrTruncated) { // known of the dump as a whole
			lost(addr, err)
		}
	}
	err := physmem.Scan(ctx, c, opt, func(addr uint64, b []byte) error {
		s.pages.Look(addr, b)
		return notes.Look(addr, b)
	})
	if err != nil {
		return nil, errors.Wrap(err, "search")
	}
	var hits []vmcore.Hit
	hits, s.More = notes.Hits()
	for _, h := range hits {
		n := FoundNote{Hit: h, Owner: owners.Of(h.Addr)}
		if name == elfnote.VMCSInfo {
			if n.Layout, err = vmcs.ParseNote(h.Note.Desc); err != nil {
				continue
			}
		}
		s.Notes = append(s.Notes, n)
	}
	return s, nil
}

// FindVMCSs searches for VMCSs by the layouts of the notes and the built-in
// ones: the layout that explains the host's memory tells which note to trust.
// It reads only the pages that the survey has recorded, or all memory if a
// note's revision identifier is not one of a known processor.
func (s *Survey) FindVMCSs(ctx context.Context, v vmcs.Search) (*vmcs.Result, error) {
	v.Found, v.VMCOREINFO, v.Sieve = layouts(s.Notes), VMCoreInfo(s.core), &s.pages
	return vmcs.Find(ctx, s.core, v)
}

// layouts returns the notes as [vmcs.Find] takes them.
func layouts(notes []FoundNote) (found []vmcs.FoundNote) {
	for _, n := range notes {
		found = append(found, vmcs.FoundNote{Layout: n.Layout, Owner: n.Owner})
	}
	return found
}

// NoteOf returns the note that a layout is from.
func NoteOf(notes []FoundNote, l *vmcs.Layout) (FoundNote, bool) {
	for _, n := range notes {
		if n.Layout == l && l != nil {
			return n, true
		}
	}
	return FoundNote{}, false
}

// VMCoreInfo returns the text of the core's VMCOREINFO; "" without one.
func VMCoreInfo(c vmcore.Core) string {
	n, _ := c.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	return string(n.Desc)
}
