package guest

import (
	"vmcsnote/elfnote"
	"vmcsnote/vmcs"
)

// A LayoutSource is where the layout of VMCSs comes from.
type LayoutSource uint8

const (
	// LayoutTried means that the layout was chosen among the built-in ones by
	// what explains the host's memory best.
	LayoutTried LayoutSource = iota
	// LayoutGiven means that the caller gave it.
	LayoutGiven
	// LayoutOfDump means that it is from the dump's VMCSINFO note.
	LayoutOfDump
	// LayoutOfMemory means that it is from one of Host.Notes.
	LayoutOfMemory
	// LayoutOfFile means that it is one that Host.Files returned.
	LayoutOfFile
	// LayoutLearnt means that it was inferred from the VMCSs and KVM's copies of
	// their fields: it has only some of the fields.
	LayoutLearnt
)

// SetLayout makes FindMachines search for VMCSs by a layout, whatever VMCSINFO
// the dump has. desc is the descriptor of the VMCSINFO note that the layout is
// from; nil if it is from none.
func (h *Host) SetLayout(l *vmcs.Layout, desc []byte) {
	h.Layout, h.LayoutFrom, h.NoteError = l, LayoutGiven, nil
	h.note = elfnote.Note{Name: elfnote.VMCSInfo, Desc: desc}
}

// files returns the caller's layouts for a processor, if there is no note.
func (h *Host) files(p vmcs.Processor) []*vmcs.Layout {
	if h.Files == nil || h.Layout != nil || h.NoteError != nil {
		return nil
	}
	return h.Files(p)
}

// takeNote makes the layout that the search has taken the host's, with the note
// that it is from.
func (h *Host) takeNote() {
	if len(h.Found.Trials) > 0 && h.Found.Layout != nil {
		if n, ok := NoteOf(h.Notes, h.Found.Trials[0].From); ok {
			h.Layout, h.LayoutFrom, h.note = n.Layout, LayoutOfMemory, n.Note
		} else if l := h.Found.Trials[0].From; h.Layout == nil && l.Form == vmcs.FormLearnt {
			h.Layout, h.LayoutFrom = l, LayoutLearnt
		} else if h.Layout == nil && l.Form != vmcs.FormBuiltin {
			h.Layout, h.LayoutFrom = l, LayoutOfFile
		}
	}
}

// VMCSInfo returns a VMCSINFO note with the layout used: the original note if
// the layout is from one. It returns false without a layout, and if the VMCSs
// are those that the kernel saved: their layout must not pass for a
// processor's.
func (h *Host) VMCSInfo() (elfnote.Note, bool) {
	l := h.Found.Layout
	switch {
	case l == nil || l.Form == vmcs.FormSaved:
		return elfnote.Note{}, false
	case l.Form == vmcs.FormBuiltin || h.note.Desc == nil:
		return layoutNote(l), true
	}
	return h.note, true
}
