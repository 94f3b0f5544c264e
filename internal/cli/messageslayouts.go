package cli

import (
	"slices"

	"vmcsnote/vmcs"
)

// submitted tells what to do with a table that --submit has printed.
func (e *env) submitted(l *vmcs.Layout, cpu processor) {
	if cpu.family == "" || cpu.microcode == "" {
		e.say("warning: the processor or its microcode is unknown: say so in the source line")
	}
	if l.RevisionID == 0 {
		e.say("warning: the revision id is unknown: it is bits 30:0 of the first 4 bytes of a VMCS, and of MSR 0x480")
	}
	for _, b := range vmcs.BuiltinFor(l.RevisionID) {
		same, other := 0, 0
		for _, x := range l.Entries {
			if y, there := b.Lookup(x.Name); there && x.Offset == y.Offset {
				same++
			} else if there {
				other++
			}
		}
		e.say("%s is built in: %d of its %s lie there, %d elsewhere", b.Name, same, plural(len(b.Entries), "field"), other)
	}
	if slices.ContainsFunc(l.Entries, func(x vmcs.Entry) bool { _, named := vmcs.FieldByName(x.Name); return !named }) {
		e.say("warning: some fields have no known name: they need a row in fields_extra.tsv, too")
	}
	e.say("doc/layouts.md tells where to send it, and how it is built in")
}
