package cli

import (
	"context"
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// stated returns the processor that the note names, or else p.
func stated(p vmcs.Processor, l *vmcs.Layout) vmcs.Processor {
	if note := l.Processor(); note.Family != 0 {
		return note
	}
	return p
}

// learn returns what KVM's own copies in a host's dump tell of the layout, and
// the host's processor.
func (e *env) learn(ctx context.Context, path string) (*vmcs.Layout, vmcs.Processor, error) {
	c, err := e.openDump(ctx, []string{path}, vmcore.OpenMemory)
	if err != nil {
		return nil, vmcs.Processor{}, err
	}
	defer c.Close()
	l, p, err := guest.OpenHost(c.Core).Learn(ctx)
	if errors.Is(err, guest.ErrNotLearnt) {
		err = hint.With(err, "the kernel module finds out the whole layout on a running host with this processor")
	}
	return l, p, err
}

// describe writes the head of the layout's table.
func describe(l *vmcs.Layout, p vmcs.Processor) {
	l.Name = "NAME"
	family, model, stepping, microcode := "unknown", "unknown", "unknown", "unknown"
	if p.Family != 0 {
		family, model, stepping = fmt.Sprintf("%x", p.Family), fmt.Sprintf("%x", p.Model), fmt.Sprintf("%x", p.Stepping)
		l.Name = fmt.Sprintf("family-%s-model-%s", family, model)
	}
	if p.Microcode != 0 {
		microcode = fmt.Sprintf("%x", p.Microcode)
	}
	l.Sources = []string{fmt.Sprintf("VMCSINFO (%s) of an Intel processor: family %s, model %s, stepping %s, microcode %s, all hexadecimal",
		l.Form, family, model, stepping, microcode)}
	l.Caveats = []string{"access rights: " + l.AccessRights.String()}
	if p.Hypervisor {
		l.Caveats = append(l.Caveats, "found inside a virtual machine: the layout may be its hypervisor's")
	}
	l.Caveats = append(l.Caveats, l.Warnings...)
}

// install checks the file path, and puts it into the directory of layouts below
// root.
func (e *env) install(root, path string, force bool) error {
	f, err := cpulayouts.ReadFile(path)
	if err != nil {
		return hint.With(named(path, err), "vmcsnote layouts --submit makes such a file")
	}
	for i, w := range f.Layout.Warnings {
		if i == message.MaxWarnings {
			e.Say("warning: %s: and %d more", path, len(f.Layout.Warnings)-i)
			break
		}
		e.Say("warning: %s: %s", path, w)
	}
	to, err := cpulayouts.Install(root, f, force)
	if err != nil {
		return named(to, err)
	}
	e.Installed(root, to, f)
	return nil
}
