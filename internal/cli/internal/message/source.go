package message

import (
	"fmt"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/source"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// From tells where a note was found.
func (p *Printer) From(s source.Source) {
	p.Say("the note comes from %s", sourceText(s))
}

// sourceText says where a note was found.
func sourceText(s source.Source) string {
	switch s.Kind {
	case source.Blob:
		return s.File
	case source.Pair:
		return "--pair " + readText(s)
	case source.Sysfs:
		return s.File + ", " + readText(s)
	case source.Layouts:
		return s.File
	case source.Search:
		return fmt.Sprintf("the core's memory at %#x", s.Pair.Addr)
	}
	if s.Read == source.InDump {
		return "the core's memory, by the record " + s.File
	}
	text := fmt.Sprintf("the record %s of %s", s.File, s.Record.When())
	if s.OfKernel != "" {
		text += fmt.Sprintf(", of another kernel (%s, the core's is %s)", Name(s.Record.Release), Name(s.OfKernel))
	}
	if s.Record.Layout != "" {
		text += ", of the file " + s.Record.Layout
	}
	if s.Read != "" {
		text += ", read from " + s.Read.Path()
	}
	if s.Stale {
		text += "; the core's memory has none at " + pairText(s.Pair) + ": overwritten, or the record is of another boot"
	}
	return text
}

// readText says which pair led to a note, and in which memory.
func readText(s source.Source) string {
	return pairText(s.Pair) + ", read from " + s.Read.Path()
}

// Notice tells a person what happened on the way to a note.
func (p *Printer) Notice(n source.Notice) {
	switch n := n.(type) {
	case source.NotUsed:
		p.Say("%s", notUsedText(n))
	case source.Failed:
		p.Say("warning: %v", n.Err)
	case source.OfThisMachine:
		p.Say("warning: the note comes from this machine: it is right only for a core of the same processor")
	case source.Shortfall:
		p.Partial(vmcore.Shortfall(n), "a note")
	case source.Unsearched:
		p.Say("warning: %s of the dump could not be searched; the first: %v", Plural(n.Pages, "page"), n.First)
	case source.More:
		p.MoreNotes(n.N, n.Name)
	case source.Searched:
		p.ProgressOver()
	case source.Candidates:
		p.candidates(n)
	case source.Chosen:
		p.Chosen(n)
	case source.Disputed:
		p.Say("warning: %s", DisputeText(n.Dispute, "the note", n.Notes))
	}
}

func notUsedText(n source.NotUsed) string {
	switch {
	case n.OfKernel != "" && n.Release == "":
		return fmt.Sprintf("%s is of kernel %s, but the core does not name its kernel (no OSRELEASE in VMCOREINFO): not used", n.Path, Name(n.OfKernel))
	case n.OfKernel != "":
		return fmt.Sprintf("%s is of kernel %s, the core of %s: not used", n.Path, Name(n.OfKernel), Name(n.Release))
	case n.Capture && n.Err != nil:
		return fmt.Sprintf("%s: not used, because this may be a capture kernel: %v", n.Path, n.Err)
	case n.Capture:
		return n.Path + " is the capture kernel's: not used"
	}
	return fmt.Sprintf("%v: not used", n.Err)
}

// MoreNotes warns of notes in memory that were not looked at.
func (p *Printer) MoreNotes(n int, name string) {
	if n > 0 {
		p.Say("warning: %d more %s notes in the core's memory were not examined", n, name)
	}
}

// candidates tells what sets the notes in memory apart.
func (p *Printer) candidates(cs source.Candidates) {
	for _, c := range cs.Notes {
		pair := sysfs.Pair{Addr: c.Addr, Size: uint64(c.Note.Size())}
		text := fmt.Sprintf("%s at %#x, --pair %s", cs.Name, c.Addr, pairText(pair))
		if c.Owner != vmcs.OwnerUnknown {
			text += ", in memory of " + c.Owner.String()
		}
		switch {
		case c.Layout != nil:
			text += fmt.Sprintf(": revision identifier %#x, %s", c.Layout.RevisionID, Plural(len(c.Layout.Entries), "field"))
			if cs.Found != nil {
				text += fmt.Sprintf(", explains %s", Plural(Explained(cs.Found, c.Layout), "VMCS"))
			}
		case cs.Name == elfnote.VMCoreInfo:
			text += ": " + infoText(string(c.Note.Desc))
		}
		p.Say("%s", text)
	}
}

// Explained is how many live VMCSs a layout found.
func Explained(res *vmcs.Result, l *vmcs.Layout) int {
	for _, t := range res.Trials {
		if t.From == l {
			return t.Live
		}
	}
	return 0
}

// DisputeText names the fields that another layout has in other places.
func DisputeText(d vmcs.Dispute, taken string, cs []guest.FoundNote) string {
	const most = 4
	fields := strings.Join(d.Fields[:min(most, len(d.Fields))], ", ")
	if n := len(d.Fields) - most; n > 0 {
		fields += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s and %s have %s in different places, and both explain VMCSs of the dump: one is wrong", taken, LayoutLabel(d.Layout, cs), fields)
}

// LayoutLabel names a layout for people.
func LayoutLabel(l *vmcs.Layout, cs []guest.FoundNote) string {
	switch c, ok := guest.NoteOf(cs, l); {
	case ok:
		return fmt.Sprintf("the VMCSINFO note in the core's memory at %#x", c.Addr)
	case l.Form == vmcs.FormBuiltin:
		return "the layout built in as " + l.Name
	case l.Form == vmcs.FormLearnt:
		return "the layout learnt from KVM's own copies"
	case l.Name != "":
		return "the layout " + l.Name
	}
	return "the note"
}

// infoText tells kernels' VMCOREINFO apart.
func infoText(text string) string {
	var parts []string
	for _, key := range []string{"OSRELEASE", "CRASHTIME", "KERNELOFFSET", "NUMBER(phys_base)"} {
		if v := guest.InfoLine(text, key); v != "" {
			parts = append(parts, key+"="+Name(v))
		}
	}
	return strings.Join(parts, ", ")
}
