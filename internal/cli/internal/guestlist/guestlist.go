// Package guestlist tells a person, or by JSON a program, which guests a host
// has: a line for each vCPU, all of it, single fields, or a page for a browser.
package guestlist

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strconv"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// A View is what a person wants to see of a host.
type View struct {
	Verbose bool // all of it, not the list
	Nested  bool // the memory of all guests was searched
	Explain bool // why each page was taken for a VMCS or was not
	Columns int  // of the terminal; 0 without one
}

// Print prints what was found for people: the list, or all of it.
func (h *Host) Print(out io.Writer, path string, v View) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s: by %s\n", path, h.FoundText())
	for _, text := range h.remarks() {
		fmt.Fprintf(w, "%s\n", visible.Text(text, ""))
	}
	for _, o := range h.ambiguous(h.Found) {
		fmt.Fprintf(w, "the layout %s fits as well: all about guests may be wrong\n", o)
	}
	for _, d := range h.doubts() {
		fmt.Fprintf(w, "warning: %s\n", d)
	}
	if v.Verbose && h.Found.Layout != nil {
		for i, text := range h.Found.Layout.Warnings {
			if i == message.MaxWarnings {
				fmt.Fprintf(w, "and %d more\n", len(h.Found.Layout.Warnings)-i)
				break
			}
			fmt.Fprintf(w, "warning: %s\n", visible.Text(text, ""))
		}
	}
	switch {
	case len(h.Machines) == 0:
		fmt.Fprintf(w, "no virtual machine: %s\n", h.NoneText())
	case v.Verbose:
		for m := range h.All() {
			h.printMachine(w, m)
		}
	default:
		h.printList(w, v.Columns)
		h.printSystems(w)
	}
	h.printRest(w, v.Nested)
	if v.Explain {
		h.explain(w)
	}
	return w.Flush()
}

// FoundText says what the machines were found by.
func (h *Host) FoundText() string {
	switch {
	case h.NoKVM != nil:
		return h.LayoutText()
	case h.Found.Layout == nil:
		return "KVM's structures"
	}
	return "KVM's structures; VMCSs by " + h.LayoutText()
}

// remarks tell what KVM's structures do not tell, and why.
func (h *Host) remarks() (texts []string) {
	if h.NoKVM != nil {
		searched := "; searched memory for VMCSs"
		if l := h.Found.Layout; l != nil && l.Form == vmcs.FormSaved {
			searched = ""
		}
		texts = append(texts, fmt.Sprintf("KVM's structures not read: %v%s", h.NoKVM, searched))
	}
	if h.SavedError != nil {
		texts = append(texts, fmt.Sprintf("warning: VMCSs may be missing: %v", h.SavedError))
	}
	if h.KVMError != nil {
		texts = append(texts, fmt.Sprintf("warning: KVM's structures are not whole: %v", h.KVMError))
	}
	for _, err := range []error{h.NoKVM, h.KVMError} {
		var left *guest.LeftOutError
		if errors.As(err, &left) {
			texts = append(texts, "hint: "+hint.Of(left))
		}
	}
	switch {
	case !h.Live:
	case h.hasVMCB():
		texts = append(texts, "warning: the host is running: registers are those of each vCPU's last exit, of different moments")
	case h.NoKVM == nil:
		texts = append(texts, "warning: the host is running: VMCSs may still be in the processors; registers are from KVM's structures alone")
	default:
		texts = append(texts, "warning: the host is running: VMCSs may still be in the processors")
	}
	return texts
}

// NoneText says why there is no machine.
func (h *Host) NoneText() string {
	if h.NoKVM == nil {
		return "KVM's list of them is empty"
	}
	return NoVMCSText(h.Found)
}

// LayoutText says which layout was used, and why.
func (h *Host) LayoutText() string {
	l := h.Found.Layout
	switch {
	case l != nil && l.Form == vmcs.FormSaved:
		return "what VMREAD returned when the host crashed, saved by its kernel"
	case l == nil && h.Layout == nil:
		return "a VMCSINFO note in the core's memory, and the layouts built in"
	case l == nil:
		return fmt.Sprintf("%s, revision identifier %#x", h.layoutFrom(), h.Layout.RevisionID)
	case h.Layout != nil && l.Name == h.Layout.Name:
		return h.layoutFrom() + revisionText(l)
	}
	what := usedText(l)
	switch n := len(h.Found.Trials); {
	case h.Layout != nil:
		what += fmt.Sprintf("; no page is a VMCS by %s", h.layoutFrom())
	case n > 1:
		what += fmt.Sprintf("; of %d tried it explains the pages best", n)
	}
	return what
}

// usedText names a layout that was tried because it is built in.
func usedText(l *vmcs.Layout) string {
	if l.Form != vmcs.FormBuiltin {
		return "the same layout" + revisionText(l)
	}
	return "the layout built in as " + l.Name + revisionText(l)
}

func revisionText(l *vmcs.Layout) string {
	return fmt.Sprintf(", revision identifier %#x, access rights %s", l.RevisionID, l.AccessRights)
}

// printRest prints what else was found, and what could not be read. nested says
// that the memory of all guests was searched.
func (h *Host) printRest(w io.Writer, nested bool) {
	for m := range h.All() {
		byKVM := m.FoundBy == guest.FoundByKVM && !nested
		switch {
		case m.OwnKVM && len(m.Nested) > 0:
			fmt.Fprintf(w, "guest %s is a hypervisor; its guests are those that KVM in its kernel lists\n", m.ID())
		case m.OwnKVM:
			fmt.Fprintf(w, "guest %s is a hypervisor; KVM in its kernel lists no guest\n", m.ID())
		case len(m.Nested) > 0 && m.Found == nil:
			fmt.Fprintf(w, "guest %s is a hypervisor; the host's KVM lists those of its guests that ran\n", m.ID())
		case len(m.Nested) > 0:
			fmt.Fprintf(w, "guest %s is a hypervisor; its guests are listed by %s\n", m.ID(), usedText(m.Found.Layout))
			if byKVM {
				fmt.Fprintf(w, "guest %s may have more guests than the host's KVM had loaded: --nested searches its memory\n", m.ID())
			}
			for _, o := range h.ambiguous(m.Found) {
				fmt.Fprintf(w, "the layout %s fits as well: all about guest %s's guests may be wrong\n", o, m.ID())
			}
		case m.Hypervisor() && byKVM && m.Found == nil && m.VCPUs[0].Vendor == guest.AMD:
			fmt.Fprintf(w, "guest %s is a hypervisor; none of its guests ran\n", m.ID())
		case m.Hypervisor() && byKVM && m.Found == nil:
			fmt.Fprintf(w, "guest %s is a hypervisor; the host's KVM has none of its guests loaded: --nested searches its memory\n", m.ID())
		case m.Hypervisor() && m.Found == nil:
			fmt.Fprintf(w, "guest %s is a hypervisor, but its memory cannot be read to find its guests\n", m.ID())
		case m.Hypervisor():
			fmt.Fprintf(w, "guest %s is a hypervisor, but in its memory there is %s\n", m.ID(), NoVMCSText(m.Found))
		}
	}
	for _, c := range h.Found.Others {
		switch c.Verdict {
		case vmcs.Stale:
			fmt.Fprintf(w, "%#x is a stale VMCS: its virtual CPU no longer existed\n", c.Addr)
		case vmcs.Shadow:
			fmt.Fprintf(w, "%#x is a shadow VMCS of a guest that is a hypervisor\n", c.Addr)
		}
	}
	if n := h.Found.Dropped; n > 0 {
		fmt.Fprintf(w, "%s more were left out\n", message.Plural(n, "VMCS"))
	}
	if n := h.Found.Lost; n > 0 {
		fmt.Fprintf(w, "%s of the dump could not be read; the first: %v\n", message.Plural(int(n), "page"), h.Found.ReadError)
	}
}

// neverRan stands for the last exit of a vCPU that made none.
const neverRan = "never ran"

// eptpText returns the machine's EPT pointer as the list has it.
func eptpText(m *guest.Machine) string {
	switch {
	case m.Shadow:
		return "shadow"
	case m.EPTP == 0:
		return "-" // AMD's, or no vCPU has run yet
	}
	return message.Hex(m.EPTP)
}

// vpidText returns the vCPU's VPID, or "-" without one.
func vpidText(v *guest.VCPU) string {
	if id, ok := v.VPID(); ok {
		return strconv.Itoa(int(id))
	}
	return "-"
}

// modeText returns the mode that the guest runs in.
func modeText(v *guest.VCPU) string {
	if v.ModeEmulated() {
		return v.Mode().String() + " (emulated)"
	}
	return v.Mode().String()
}

// exitText says why the guest was last left.
func exitText(v *guest.VCPU) string {
	if v.NeverExited() {
		return neverRan
	}
	if exit, ok := v.LastExit(); ok {
		return exit
	}
	return "?"
}

// explain prints why each page was taken for a VMCS or was not, and how each
// layout did.
func (h *Host) explain(w io.Writer) {
	explain(w, h.Found)
	for m := range h.All() {
		if m.Found != nil {
			fmt.Fprintf(w, "\nin the memory of guest %s:", m.ID())
			explain(w, m.Found)
		}
	}
	if h.NoKVM == nil {
		fmt.Fprintf(w, "\nKVM's structures and the search for VMCSs disagree about %s\n", message.Plural(len(h.Disagreements), "thing"))
	}
	for _, d := range h.Disagreements {
		fmt.Fprintf(w, "%s: %s: KVM has %s, the search %s\n", ownerText(d), d.What, visible.Text(cmp.Or(d.KVM, "nothing"), ""), visible.Text(cmp.Or(d.VMCS, "nothing"), ""))
	}
}

// ownerText names the machine or vCPU that a disagreement is about.
func ownerText(d guest.Disagreement) string {
	switch {
	case d.Machine == nil:
		return "host"
	case d.VCPU == nil:
		return "guest " + d.Machine.ID()
	}
	return fmt.Sprintf("guest %s, vCPU %d", d.Machine.ID(), d.VCPU.Number)
}

func explain(w io.Writer, r *vmcs.Result) {
	fmt.Fprintf(w, "\n%s looked at, %s with a revision identifier that was looked for\n", message.Plural(int(r.Pages), "page"), begin(r.Matched))
	for _, t := range r.Trials {
		fmt.Fprintf(w, "layout %s: of %s %d live and %d stale, score %d\n", cmp.Or(t.Layout.Name, "of the note"), message.Plural(t.Matched, "page"), t.Live, t.Stale, t.Score)
	}
	for _, s := range r.Strangers {
		fmt.Fprintf(w, "%s of the unknown revision identifier %#x\n", looks(s.Pages), s.RevisionID)
	}
	for _, cs := range [][]*vmcs.Candidate{r.VMCSs, r.Others} {
		for _, c := range cs {
			fmt.Fprintf(w, "\n%#x: %s, score %d\n", c.Addr, c.Verdict, c.Score)
			for _, k := range c.Checks {
				fmt.Fprintf(w, "  %-7s %-28s %#x: %s\n", k.Answer, k.Name, k.Value, k.Want)
			}
		}
	}
}

// NoVMCSText describes a search that found nothing.
func NoVMCSText(r *vmcs.Result) string {
	s := "no VMCS in " + message.Plural(int(r.Pages), "page")
	if r.Matched > 0 {
		s += fmt.Sprintf(", though %s with a revision identifier that is known", begin(r.Matched))
	}
	for i, o := range r.Strangers {
		if i == 3 {
			break
		}
		s += fmt.Sprintf("; %s of the unknown revision identifier %#x", looks(o.Pages), o.RevisionID)
	}
	return s
}

func begin(n uint64) string {
	if n == 1 {
		return "1 begins"
	}
	return fmt.Sprintf("%d begin", n)
}

func looks(n int) string {
	if n == 1 {
		return "1 page looks like a VMCS"
	}
	return fmt.Sprintf("%d pages look like VMCSs", n)
}

// MachineText names a machine.
func MachineText(m *guest.Machine) string {
	if m.Name == "" {
		return "machine " + m.ID()
	}
	return fmt.Sprintf("machine %s (%s)", m.ID(), m.Name)
}

// Warnings tell what is doubtful about a host whose guests are extracted.
func (h *Host) Warnings() []string {
	texts := h.remarks()
	for _, d := range h.doubts() {
		texts = append(texts, "warning: "+d)
	}
	for _, o := range h.ambiguous(h.Found) {
		texts = append(texts, fmt.Sprintf("warning: the layout %s fits as well: registers and memory may be wrong", o))
	}
	return texts
}
