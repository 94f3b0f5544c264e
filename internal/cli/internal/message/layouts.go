package message

import (
	"slices"

	"vmcsnote/vmcs"
)

// Submitted tells what to do with a layout that --submit has printed.
func (p *Printer) Submitted(l *vmcs.Layout, cpu vmcs.Processor, table bool) {
	switch known := cpu.Family != 0 && cpu.Microcode != 0; {
	case !known && table:
		p.Say("warning: the processor or its microcode is unknown: say so in the source line")
	case !known:
		p.Say("warning: the processor or its microcode is unknown: layouts --install will refuse it without CPU_ lines")
	}
	if l.Form == vmcs.FormLearnt {
		p.Say("%s learnt; the places of the others are not known", Plural(len(l.Entries), "field"))
	}
	if cpu.Hypervisor {
		p.Say("warning: found inside a virtual machine: the layout may be its hypervisor's")
	}
	if l.RevisionID == 0 {
		p.Say("warning: the revision id is unknown: it is bits 30:0 of the first 4 bytes of a VMCS, and of MSR 0x480")
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
		p.Say("%s is built in: %d of its %s lie there, %d elsewhere", b.Name, same, Plural(len(b.Entries), "field"), other)
	}
	if slices.ContainsFunc(l.Entries, func(x vmcs.Entry) bool { _, named := vmcs.FieldByName(x.Name); return !named }) {
		p.Say("warning: some fields have no known name: they need a row in fields_extra.tsv, too")
	}
	if !table {
		p.Say("vmcsnote layouts --install puts it where record finds it on hosts with this processor")
	}
	if l.Form != vmcs.FormLearnt {
		p.Say("doc/layouts.md tells where to send it, and how it is built in")
	}
}
