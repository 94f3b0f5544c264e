package cli

import (
	"context"
	"debug/elf"
	"fmt"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// candidates looks through the core's memory for intact notes, those first that
// are to be trusted most.
func (f *finder) candidates(ctx context.Context) ([]guest.FoundNote, error) {
	lost, first := 0, error(nil)
	cs, more, err := guest.FindNotes(ctx, f.core, f.name, f.typ, func(_ uint64, err error) {
		if lost++; first == nil {
			first = err
		}
	})
	if lost > 0 {
		f.e.say("warning: %s of the dump could not be searched; the first: %v", plural(lost, "page"), first)
	}
	f.e.moreNotes(more, f.name)
	return cs, err
}

// moreNotes warns of notes in memory that were not looked at.
func (e *env) moreNotes(n int, name string) {
	if n > 0 {
		e.say("warning: %d more %s notes in the core's memory: not looked at", n, name)
	}
}

// pickNote returns the candidate to take: the only one, the one that explains
// the dump's VMCSs, or the one of the core's own kernel.
func (f *finder) pickNote(ctx context.Context, cs []guest.FoundNote) (guest.FoundNote, error) {
	switch {
	case len(cs) == 1 && (f.name != elfnote.VMCSInfo || cs[0].Owner == vmcs.OwnerKernel):
		return cs[0], nil
	case f.name == elfnote.VMCSInfo:
		return f.pickLayout(ctx, cs)
	}
	own := f.kernelBase()
	var good []guest.FoundNote
	for _, c := range cs {
		if own != "" && f.name == elfnote.VMCoreInfo && infoLine(string(c.Note.Desc), "NUMBER(phys_base)") == own {
			good = append(good, c)
		}
	}
	if len(good) == 1 {
		f.list(cs, nil)
		return good[0], nil
	}
	return guest.FoundNote{}, f.several(cs, nil)
}

// pickLayout chooses among VMCSINFO notes by what the dump's VMCSs say.
func (f *finder) pickLayout(ctx context.Context, cs []guest.FoundNote) (guest.FoundNote, error) {
	res, err := guest.CompareNotes(ctx, f.core, cs, bytesOf(f.e.progress("comparing notes with the dump's VMCSs")))
	if err != nil {
		return guest.FoundNote{}, err
	}
	f.e.progressOver()
	if res.Layout == nil { // no guest ran
		if len(cs) == 1 || cs[0].Owner == vmcs.OwnerKernel && cs[1].Owner != vmcs.OwnerKernel {
			return cs[0], nil
		}
		return guest.FoundNote{}, f.several(cs, res)
	}
	c, ok := guest.NoteOf(cs, res.Trials[0].From)
	switch {
	case !ok:
		f.list(cs, res)
		return guest.FoundNote{}, refuted{withHint{errors.Wrapf(errNoNote, "%s in the core's memory: none explains the dump's VMCSs as the built-in layout %s does",
			plural(len(cs), "VMCSINFO note"), res.Layout.Name), "to take one all the same, give --pair"}}
	case len(res.Ambiguous()) > 0:
		return guest.FoundNote{}, f.several(cs, res)
	case len(cs) > 1:
		f.list(cs, res)
	}
	for _, d := range res.Disputes() {
		f.e.say("warning: %s", disputeText(d, "the note", cs))
	}
	return c, nil
}

// refuted is the error for notes that the dump's VMCSs contradict.
type refuted struct{ withHint }

// several is the error for notes that nothing tells apart.
func (f *finder) several(cs []guest.FoundNote, res *vmcs.Result) error {
	f.list(cs, res)
	return withHint{errors.Errorf("%d different %s notes in the core's memory", len(cs), f.name), "take one of them with --pair"}
}

// list tells of every candidate what sets it apart.
func (f *finder) list(cs []guest.FoundNote, res *vmcs.Result) {
	for _, c := range cs {
		pair := sysfs.Pair{Addr: c.Addr, Size: uint64(c.Note.Size())}
		text := fmt.Sprintf("%s at %#x, --pair %s", f.name, c.Addr, pairText(pair))
		if c.Owner != vmcs.OwnerUnknown {
			text += ", in memory of " + c.Owner.String()
		}
		switch {
		case c.Layout != nil:
			text += fmt.Sprintf(": revision identifier %#x, %s", c.Layout.RevisionID, plural(len(c.Layout.Entries), "field"))
			if res != nil {
				text += fmt.Sprintf(", explains %s", plural(explained(res, c.Layout), "VMCS"))
			}
		case f.name == elfnote.VMCoreInfo:
			text += ": " + infoText(string(c.Note.Desc))
		}
		f.e.say("%s", text)
	}
}

// explained is how many live VMCSs a layout found.
func explained(res *vmcs.Result, l *vmcs.Layout) int {
	for _, t := range res.Trials {
		if t.From == l {
			return t.Live
		}
	}
	return 0
}

// disputeText says which fields another layout has elsewhere than what was taken.
func disputeText(d vmcs.Dispute, taken string, cs []guest.FoundNote) string {
	const most = 4
	fields := strings.Join(d.Fields[:min(most, len(d.Fields))], ", ")
	if n := len(d.Fields) - most; n > 0 {
		fields += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s and %s have %s in different places, and both explain VMCSs of the dump: one is wrong", taken, layoutLabel(d.Layout, cs), fields)
}

// layoutLabel names a layout for people.
func layoutLabel(l *vmcs.Layout, cs []guest.FoundNote) string {
	switch c, ok := guest.NoteOf(cs, l); {
	case ok:
		return fmt.Sprintf("the VMCSINFO note in the core's memory at %#x", c.Addr)
	case l.Name != "":
		return "the layout built in as " + l.Name
	}
	return "the note"
}

// kernelBase is phys_base of the kernel that the core is of, in VMCOREINFO's
// words: by its own VMCOREINFO, or by the PT_LOAD that has the kernel's image.
func (f *finder) kernelBase() string {
	if s := infoLine(guest.VMCoreInfo(f.core), "NUMBER(phys_base)"); s != "" {
		return s
	}
	c, ok := f.core.(*vmcore.ELF)
	if !ok {
		return ""
	}
	const image, end = 0xffffffff80000000, 0xffffffffc0000000
	for _, p := range c.Progs {
		if p.Type == elf.PT_LOAD && p.Vaddr >= image && p.Vaddr < end {
			return strconv.FormatInt(int64(p.Paddr-(p.Vaddr-image)), 10)
		}
	}
	return ""
}

// infoText tells kernels' VMCOREINFO apart.
func infoText(text string) string {
	var parts []string
	for _, key := range []string{"OSRELEASE", "CRASHTIME", "KERNELOFFSET", "NUMBER(phys_base)"} {
		if v := infoLine(text, key); v != "" {
			parts = append(parts, key+"="+name(v))
		}
	}
	return strings.Join(parts, ", ")
}

// infoLine returns the value of a line KEY=VALUE of VMCOREINFO, or "".
func infoLine(text, key string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSuffix(v, "\n")
		}
	}
	return ""
}
