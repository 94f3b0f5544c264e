package guest

import (
	"context"

	"vmcsnote/elfnote"
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

// trustOf orders the owners of memory: no program chose what the kernel's has.
var trustOf = map[vmcs.Owner]int{vmcs.OwnerKernel: 3, vmcs.OwnerUnknown: 2, vmcs.OwnerUser: 1, vmcs.OwnerNone: 0}

// FindNotes looks through a host's memory for intact notes of a name and type.
// Those that are to be trusted most come first; more is how many were left out.
// lost, if not nil, is told of pages that cannot be read.
func FindNotes(ctx context.Context, c vmcore.Core, name string, typ uint32, lost func(addr uint64, err error)) (notes []FoundNote, more int, err error) {
	owners := vmcs.NewOwners(c, VMCoreInfo(c))
	hits, more, err := vmcore.SearchNote(ctx, c, vmcore.NoteSearch{
		Name: name, Type: typ, Order: c.Notes().Order,
		Intact: func(n elfnote.Note) bool {
			_, err := vmcs.ParseNote(n.Desc)
			return err == nil || n.Name != elfnote.VMCSInfo
		},
		Trust: func(addr uint64) int { return trustOf[owners.Of(addr)] },
		Lost:  lost,
	})
	if err != nil {
		return nil, 0, err
	}
	for _, h := range hits {
		n := FoundNote{Hit: h, Owner: owners.Of(h.Addr)}
		if name == elfnote.VMCSInfo {
			if n.Layout, err = vmcs.ParseNote(h.Note.Desc); err != nil {
				continue
			}
		}
		notes = append(notes, n)
	}
	return notes, more, nil
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

// CompareNotes looks for VMCSs by the layouts of the notes and the built-in ones:
// which of them explains the host's memory tells which note to trust.
func CompareNotes(ctx context.Context, c vmcore.Core, notes []FoundNote, progress func(done, total uint64)) (*vmcs.Result, error) {
	return vmcs.Find(ctx, c, vmcs.Search{
		Found: layouts(notes), Partial: vmcore.ShortfallOf(c).Partial(), VMCOREINFO: VMCoreInfo(c), Progress: portion(progress, c),
	})
}

// layouts returns the notes as [vmcs.Find] takes them.
func layouts(notes []FoundNote) (found []vmcs.FoundNote) {
	for _, n := range notes {
		found = append(found, vmcs.FoundNote{Layout: n.Layout, Owner: n.Owner})
	}
	return found
}

// VMCoreInfo returns the text of the core's VMCOREINFO; "" without one.
func VMCoreInfo(c vmcore.Core) string {
	n, _ := c.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	return string(n.Desc)
}
