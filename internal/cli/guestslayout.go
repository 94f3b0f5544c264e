package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/vmcs"
)

// A host is a dump's host, for people.
type host struct {
	*guest.Host
	given string // --layout
}

// setLayout takes the layout that --layout names, if it does.
func (f *guestsFlags) setLayout(ctx context.Context, e *env, h *host) error {
	if f.layout == "" {
		if h.NoteError != nil {
			e.Say("warning: the VMCSINFO note is of no use: %v", h.NoteError)
		}
		return nil
	}
	l, raw, err := e.loadLayout(ctx, f.layout)
	if err != nil {
		return errors.Wrap(err, "--layout")
	}
	h.SetLayout(l, raw)
	h.given = f.layout
	return nil
}

// layoutFrom says where the layout comes from that was looked for.
func (h *host) layoutFrom() string {
	switch h.LayoutFrom {
	case guest.LayoutGiven:
		if h.Layout.Form == vmcs.FormBuiltin {
			return "the layout built in as " + h.Layout.Name
		}
		return h.given
	case guest.LayoutOfMemory:
		n, _ := guest.NoteOf(h.Notes, h.Layout)
		return fmt.Sprintf("a VMCSINFO note in the core's memory at %#x", n.Addr)
	}
	return "the VMCSINFO note"
}

// addHost is the cure for a host's dump without VMCSINFO.
const addHost = "add VMCSINFO to the host's dump with vmcsnote inject --blob, out of any file of a host with the same processor and microcode"

// vmcsInfo returns a VMCSINFO note that says what the layout used says.
func (h *host) vmcsInfo() (elfnote.Note, error) {
	n, ok := h.VMCSInfo()
	if !ok {
		return n, hint.With(errors.Wrap(source.ErrNone, "the vCPUs' pages are of use only with it"), addHost)
	}
	return n, nil
}

// loadLayout reads a layout from a file, a directory, or takes a built-in one; raw
// is VMCSINFO's descriptor, where it is from one.
func (e *env) loadLayout(ctx context.Context, what string) (l *vmcs.Layout, raw []byte, err error) {
	info, err := os.Stat(what)
	if err != nil {
		for _, l := range vmcs.Builtin() {
			if l.Name == what {
				return l, nil, nil
			}
		}
		return nil, nil, hint.With(errors.Wrap(err, "neither a layout built in nor a file"), strings.TrimSpace(hint.DidYouMean(what, layoutNames())+" vmcsnote layouts lists those built in"))
	}
	if info.IsDir() {
		l, err := vmcs.ParseDir(os.DirFS(what))
		return l, nil, err
	}
	r, err := e.look(ctx, what)
	if err != nil {
		return nil, nil, errors.Wrap(err, what)
	}
	if r.raw == nil {
		return nil, nil, errors.Errorf("%s: no VMCSINFO in it", what)
	}
	l, err = vmcs.ParseNote(r.raw)
	return l, r.raw, errors.Wrap(err, what)
}

// doubts says what speaks against the layout used.
func (h *host) doubts() (doubts []string) {
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
func (h *host) ambiguous(found *vmcs.Result) (names []string) {
	for _, l := range found.Ambiguous() {
		if n, ok := guest.NoteOf(h.Notes, l); ok {
			names = append(names, fmt.Sprintf("of a VMCSINFO note in the core's memory at %#x", n.Addr))
		} else if l.Name != found.Layout.Name {
			names = append(names, l.Name)
		}
	}
	return names
}
