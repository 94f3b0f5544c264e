package cli

import (
	"vmcsnote/guest"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// layoutFiles returns the layout in the directories below root that fits a
// dump's processor; all of them if the processor is unknown.
func (e *env) layoutFiles(root string, p vmcs.Processor) (ls []*vmcs.Layout) {
	files, _ := cpulayouts.Read(root)
	if p.Family == 0 {
		for _, f := range files {
			ls = append(ls, f.Layout)
		}
		return ls
	}
	c := cpulayouts.Choose(files, p, false)
	if c.File == nil {
		return nil
	}
	e.Chosen(source.Chosen{Choice: c})
	return []*vmcs.Layout{c.File.Layout}
}

// otherProcessor warns if the note and the dump are known to be of different
// processors. In a capture environment they are of the same machine.
func (e *env) otherProcessor(f *source.Finder, c vmcore.Core, l *vmcs.Layout) {
	note := l.Processor()
	if !f.Whole || note.Family == 0 || f.Capture() {
		return
	}
	if p, err := guest.ProcessorOf(c); err == nil {
		if why := cpulayouts.Differ(note, p); why != "" {
			e.Say("warning: the note is not of the core's processor: %s", why)
		}
	}
}
