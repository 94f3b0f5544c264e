package message

import (
	"strings"

	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
)

// Chosen tells what a person should know of the file of layouts that was taken.
func (p *Printer) Chosen(c source.Chosen) {
	if c.Microcode != "" {
		p.Say("warning: %s is of %s", c.File.Name, c.Microcode)
	}
	if len(c.Others) == 0 {
		return
	}
	names := make([]string, len(c.Others))
	for i, f := range c.Others {
		names[i] = f.Name
	}
	if c.Conflict {
		p.Say("warning: %s is used; other files for this processor have fields in other places: %s", c.File.Name, strings.Join(names, ", "))
	} else {
		p.Say("%s is used; the same layout is also in %s", c.File.Name, strings.Join(names, ", "))
	}
}

// Installed tells which file of layouts was installed, and whether it fits this
// machine.
func (p *Printer) Installed(root, path string, f *cpulayouts.File) {
	c := f.Processor
	p.Say("%s: %s, of family %x, model %x, stepping %x, microcode %x", path, Plural(len(f.Layout.Entries), "field"), c.Family, c.Model, c.Stepping, c.Microcode)
	f.Name = path
	here, err := cpulayouts.Machine(root)
	if err != nil {
		return
	}
	if chosen := cpulayouts.Choose([]*cpulayouts.File{f}, here, false); chosen.File == nil {
		p.Say("warning: it does not fit this machine: %s", chosen.Refused[0].Why)
	} else {
		p.Say("it fits this machine: vmcsnote record uses it if the kernel publishes nothing")
	}
}
