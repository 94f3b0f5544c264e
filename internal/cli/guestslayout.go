package cli

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// findLayout says which layout to look for VMCSs with: the one asked for, or the
// core's note. Without either, the notes in the core's memory are tried, and the
// layouts built in.
func (f *guestsFlags) findLayout(ctx context.Context, e *env, h *host) error {
	if f.layout != "" {
		l, raw, err := e.loadLayout(ctx, f.layout)
		if err != nil {
			return errors.Wrap(err, "--layout")
		}
		h.asked, h.layoutFrom = l, f.layout
		if l.Form == vmcs.FormBuiltin {
			h.layoutFrom = "the layout built in as " + l.Name
		}
		h.note = elfnote.Note{Name: elfnote.VMCSInfo, Desc: raw}
		return nil
	}
	n, ok := readVMCSInfo(h.Core)
	from := "the VMCSINFO note"
	if !ok {
		var err error
		h.candidates, err = (&finder{&sourceFlags{name: elfnote.VMCSInfo}, e, h.Core, true}).candidates(ctx)
		return err
	}
	l, err := vmcs.ParseNote(n.Desc)
	if err != nil {
		e.say("warning: %s is of no use: %v", from, err)
		return nil
	}
	h.asked, h.note, h.layoutFrom = l, n, from
	return nil
}

// addHost is the cure for a host's dump without VMCSINFO.
const addHost = "add VMCSINFO to the host's dump with vmcsnote inject --blob, out of any file of a host with the same processor and microcode"

// vmcsInfo is a VMCSINFO note that says what the layout taken says: the one that
// it is from, where it is from one.
func (h *host) vmcsInfo() (elfnote.Note, error) {
	l := h.found.Layout
	switch {
	case l == nil:
		return elfnote.Note{}, withHint{errors.Wrap(errNoNote, "the vCPUs' pages are of use only with it"), addHost}
	case l.Form == vmcs.FormBuiltin || h.note.Desc == nil:
		return guest.LayoutNote(l), nil
	}
	return h.note, nil
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
		return nil, nil, withHint{errors.Wrap(err, "neither a layout built in nor a file"), strings.TrimSpace(didYouMean(what, layoutNames()) + " vmcsnote layouts lists those built in")}
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

// physRanges lists a core's memory.
func physRanges(c vmcore.Core) iter.Seq2[uint64, uint64] {
	return func(yield func(addr, size uint64) bool) {
		for r := range c.PhysRuns() {
			if !yield(r.Addr, r.Size) {
				return
			}
		}
	}
}

// settleLayout says where the layout taken comes from, if it is a candidate's,
// and what speaks against it.
func (h *host) settleLayout() {
	res := h.found
	if len(res.Trials) > 0 && res.Layout != nil {
		if c, ok := candidateOf(h.candidates, res.Trials[0].From); ok {
			h.asked, h.note = c.layout, c.Note
			h.layoutFrom = fmt.Sprintf("a VMCSINFO note in the core's memory at %#x", c.Addr)
		}
	}
	for _, d := range res.Disputes() {
		h.doubts = append(h.doubts, disputeText(d, layoutLabel(res.Trials[0].From, h.candidates), h.candidates))
	}
	for _, c := range h.candidates {
		if c.layout != h.asked && explained(res, c.layout) == 0 {
			h.doubts = append(h.doubts, fmt.Sprintf("the VMCSINFO note in the core's memory at %#x, revision identifier %#x, explains no VMCS: not used", c.Addr, c.layout.RevisionID))
		}
	}
}

// ambiguous names the layouts that fit as well as the one taken.
func (h *host) ambiguous(found *vmcs.Result) (names []string) {
	for _, l := range found.Ambiguous() {
		if c, ok := candidateOf(h.candidates, l); ok {
			names = append(names, fmt.Sprintf("of a VMCSINFO note in the core's memory at %#x", c.Addr))
		} else if l.Name != found.Layout.Name {
			names = append(names, l.Name)
		}
	}
	return names
}
