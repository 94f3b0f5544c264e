package cli

import (
	"strings"

	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
)

// chosen tells what a person should know of the file of layouts that was taken.
func (e *env) chosen(c source.Chosen) {
	if c.Microcode != "" {
		e.say("warning: %s is of %s", c.File.Name, c.Microcode)
	}
	if len(c.Others) == 0 {
		return
	}
	names := make([]string, len(c.Others))
	for i, f := range c.Others {
		names[i] = f.Name
	}
	if c.Conflict {
		e.say("warning: %s is taken; also of this processor, but with fields in other places: %s", c.File.Name, strings.Join(names, ", "))
	} else {
		e.say("%s is taken; with the same layout there is also %s", c.File.Name, strings.Join(names, ", "))
	}
}

// installed tells which file of layouts was installed, and whether it fits this
// machine.
func (e *env) installed(root, path string, f *cpulayouts.File) {
	p := f.Processor
	e.say("%s: %s, of family %x, model %x, stepping %x, microcode %x", path, plural(len(f.Layout.Entries), "field"), p.Family, p.Model, p.Stepping, p.Microcode)
	f.Name = path
	here, err := cpulayouts.Machine(root)
	if err != nil {
		return
	}
	if c := cpulayouts.Choose([]*cpulayouts.File{f}, here, false); c.File == nil {
		e.say("warning: it does not serve this machine: %s", c.Refused[0].Why)
	} else {
		e.say("it serves this machine: vmcsnote record takes it if the kernel publishes nothing")
	}
}
