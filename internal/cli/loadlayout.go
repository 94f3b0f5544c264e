package cli

import (
	"context"
	"os"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/vmcs"
)

// setLayout takes the layout that --layout names, if it does.
func (f *guestsFlags) setLayout(ctx context.Context, e *env, h *guestlist.Host) error {
	if f.layout == "" {
		h.Files = func(p vmcs.Processor) []*vmcs.Layout { return e.layoutFiles(f.root, p) }
		if h.NoteError != nil {
			e.Say("warning: the VMCSINFO note cannot be used: %v", h.NoteError)
		}
		return nil
	}
	l, raw, err := e.loadLayout(ctx, f.layout)
	if err != nil {
		return errors.Wrap(err, "--layout")
	}
	h.SetLayout(l, raw)
	h.Given = f.layout
	return nil
}

// loadLayout reads a layout from a file, a directory, or takes a built-in one;
// raw is VMCSINFO's descriptor, where it is from one.
func (e *env) loadLayout(ctx context.Context, what string) (l *vmcs.Layout, raw []byte, err error) {
	info, err := os.Stat(what)
	if err != nil {
		for _, l := range vmcs.Builtin() {
			if l.Name == what {
				return l, nil, nil
			}
		}
		return nil, nil, hint.With(errors.Wrap(err, "neither a built-in layout nor a file"), strings.TrimSpace(hint.DidYouMean(what, layoutNames())+" vmcsnote layouts lists those built in"))
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
		return nil, nil, errors.Errorf("%s has no VMCSINFO", what)
	}
	l, err = vmcs.ParseNote(r.raw)
	return l, r.raw, errors.Wrap(err, what)
}
