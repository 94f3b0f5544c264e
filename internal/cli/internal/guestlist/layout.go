package guestlist

import (
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/vmcs"
)

// A Host is a dump's host, for people.
type Host struct {
	*guest.Host
	Given string // --layout
	// Systems are what runs in the machines; nil if nobody asked.
	Systems map[*guest.Machine]*inside.System
}

// layoutFrom says where the layout that was looked for comes from.
func (h *Host) layoutFrom() string {
	switch h.LayoutFrom {
	case guest.LayoutGiven:
		if h.Layout.Form == vmcs.FormBuiltin {
			return "the layout built in as " + h.Layout.Name
		}
		return h.Given
	case guest.LayoutOfFile:
		return "the layout of the processor, " + h.Layout.Name
	case guest.LayoutLearnt:
		return fmt.Sprintf("a layout of %s, learnt from KVM's own copies", message.Plural(len(h.Layout.Entries), "field"))
	case guest.LayoutOfMemory:
		n, _ := guest.NoteOf(h.Notes, h.Layout)
		return fmt.Sprintf("a VMCSINFO note in the core's memory at %#x", n.Addr)
	}
	return "the VMCSINFO note"
}

// AddHost is the cure for a host's dump without VMCSINFO.
const AddHost = "add VMCSINFO to the host's dump with vmcsnote inject --blob, out of any file of a host with the same processor and microcode"

// VmcsInfo returns the layout used as a VMCSINFO note.
func (h *Host) VmcsInfo() (elfnote.Note, error) {
	n, ok := h.VMCSInfo()
	if !ok {
		return n, hint.With(errors.Wrap(source.ErrNone, "the vCPUs' pages are useless without it"), AddHost)
	}
	return n, nil
}

// doubts tells what contradicts the layout used.
func (h *Host) doubts() (doubts []string) {
	for _, d := range h.Found.Disputes() {
		doubts = append(doubts, message.DisputeText(d, message.LayoutLabel(h.Found.Trials[0].From, h.Notes), h.Notes))
	}
	for _, n := range h.Notes {
		if n.Layout != h.Layout && message.Explained(h.Found, n.Layout) == 0 {
			doubts = append(doubts, fmt.Sprintf("the VMCSINFO note in the core's memory at %#x, revision identifier %#x, explains no VMCS: not used", n.Addr, n.Layout.RevisionID))
		}
	}
	return doubts
}

// ambiguous names the layouts that fit as well as the one used.
func (h *Host) ambiguous(found *vmcs.Result) (names []string) {
	for _, l := range found.Ambiguous() {
		if n, ok := guest.NoteOf(h.Notes, l); ok {
			names = append(names, fmt.Sprintf("of a VMCSINFO note in the core's memory at %#x", n.Addr))
		} else if l.Name != found.Layout.Name {
			names = append(names, l.Name)
		}
	}
	return names
}
