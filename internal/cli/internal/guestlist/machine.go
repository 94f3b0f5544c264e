package guestlist

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/visible"
	"vmcsnote/internal/x86"
	"vmcsnote/svm"
	"vmcsnote/vmcs"
)

// printMachine prints all that is known of a machine.
func (h *Host) printMachine(w io.Writer, m *guest.Machine) {
	defer m.Forget() // there may be a thousand
	fmt.Fprintf(w, "\nguest %s: %s, page tables of its process at %s\n", m.ID(), pagingText(m), known(m.Process))
	if m.FoundBy == guest.FoundByKVM {
		printProcess(w, m)
	}
	h.printSystem(w, m)
	if t := EncryptedText(m); t != "" {
		fmt.Fprintf(w, "  %s\n", t)
	}
	if mem, err := m.Memory(); err != nil {
		fmt.Fprintf(w, "  memory: %v\n", err)
	} else {
		printMemory(w, m, mem)
	}
	for _, v := range m.VCPUs {
		fmt.Fprintf(w, "\nguest %s, vCPU %d: %s, %s, last exit %s\n", m.ID(), v.Number, controlText(v), modeText(v), exitText(v))
		if m.FoundBy == guest.FoundByKVM {
			fmt.Fprintf(w, "  thread %s %s on host CPU %s, state %s\n", CountText(v.TID), quoted(v.Thread), hostCPUText(v), orDash(v.State))
		}
		if v.HasVMCS() && v.Abort() != 0 {
			fmt.Fprintf(w, "  VMX abort %d: the processor shut down when it left the guest\n", v.Abort())
		}
		h.printActivity(w, m, v)
		if v.Regs != nil {
			printRegisters(w, m, v)
		}
		switch {
		case v.HasVMCS():
			printFields(w, v)
		case v.SVM != nil:
			printVMCB(w, v)
		}
	}
}

// pagingText says what translates the machine's guest-physical addresses.
func pagingText(m *guest.Machine) string {
	switch {
	case m.NCR3() != 0:
		return fmt.Sprintf("nested page tables at %#x", m.NCR3())
	case m.Shadow:
		return "shadow page tables"
	case m.EPTP != 0:
		return fmt.Sprintf("EPTP %#x", m.EPTP)
	case slices.ContainsFunc(m.VCPUs, (*guest.VCPU).HasVMCS):
		return "no EPT yet"
	}
	for _, v := range m.VCPUs {
		switch {
		case v.SVM == nil:
		case m.Within == nil && v.SVM.NestedPaging():
			return "no nested page tables yet"
		default:
			return "shadow page tables"
		}
	}
	return "EPT or nested page tables unknown"
}

// controlText says where the processor's own page of a vCPU is.
func controlText(v *guest.VCPU) string {
	switch {
	case v.VMCB != 0:
		return fmt.Sprintf("VMCB at %#x", v.VMCB)
	case v.VMCSAddr != 0:
		return fmt.Sprintf("VMCS at %#x", v.VMCSAddr)
	}
	return "VMCS or VMCB unknown"
}

// printProcess prints what the machine is called, and what runs it.
func printProcess(w io.Writer, m *guest.Machine) {
	fmt.Fprintf(w, "  name: %s\n", orDash(visible.Text(m.Name, "")))
	fmt.Fprintf(w, "  UUID: %s\n", orDash(visible.Text(m.UUID, "")))
	fmt.Fprintf(w, "  process: pid %s, %s\n", CountText(m.PID), quoted(m.Comm))
	fmt.Fprintf(w, "  cgroup: %s\n", orDash(visible.Text(m.Cgroup, "")))
	line := "not in the dump"
	if m.Command != nil {
		line = commandLine(m.Command)
	}
	fmt.Fprintf(w, "  command line: %s\n", line)
}

// quoted prints a name in quotes.
func quoted(s string) string { return strconv.Quote(visible.Text(s, "")) }

// commandLine prints the words of a command line as a shell takes them.
func commandLine(words []string) string {
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, shellWord(word))
	}
	return strings.Join(quoted, " ")
}

// shellWord prints a word of a command line, in quotes if it needs them.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'\\$`&|;<>()*?[]#~!{}", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(visible.Text(s, ""), "'", `'\''`) + "'"
}

// EmptyEPT tells that nothing says where the guest's memory is.
const EmptyEPT = "EPT has no entry: KVM dropped all of it, as when a memory slot is removed, and no vCPU has run since"

// printMemory prints where the guest's memory is, and how much of it there is.
func printMemory(w io.Writer, m *guest.Machine, mem *guest.Physical) {
	for _, s := range m.Slots {
		fmt.Fprintf(w, "  slot %d: %#x to %#x, in the process at %#x%s\n", s.ID, s.GPA, s.GPA+s.Size-1, s.HVA, slotFlags(s))
	}
	for _, s := range mem.Slots() {
		if m.Slots != nil {
			break // these are KVM's
		}
		fmt.Fprintf(w, "  memory: %#x to %#x, in the process at %#x, by %s\n", s.GPA, s.GPA+s.Size-1, s.HVA, message.Plural(int(s.Pages), "page"))
	}
	if m.Slots == nil && mem.Empty() {
		fmt.Fprintf(w, "  memory: %s\n", EmptyEPT)
	} else if m.Slots == nil && len(mem.Slots()) == 0 {
		fmt.Fprintln(w, "  memory: what EPT maps alone, since the dump does not tell where it is in the process")
	}
	t := mem.Tally()
	fmt.Fprintf(w, "  mapped: %s by %s, %s more by the process", message.Size(int64(t.EPT)), tableName(m), message.Size(int64(t.Process)))
	for _, c := range []struct {
		bytes uint64
		what  string
	}{{t.Swapped, "swapped out"}, {t.MMIO, "MMIO"}, {t.Tables, "at most in tables that the dump lacks"}} {
		if c.bytes > 0 {
			fmt.Fprintf(w, ", %s %s", message.Size(int64(c.bytes)), c.what)
		}
	}
	if t.Incomplete {
		fmt.Fprint(w, ", and more")
	}
	fmt.Fprintln(w)
}

// tableName names what translates the machine's guest-physical addresses.
func tableName(m *guest.Machine) string {
	if m.NCR3() != 0 {
		return "nested page tables"
	}
	return "EPT"
}

// slotFlags puts into words what KVM's flags say about a slot.
func slotFlags(s guest.Slot) (text string) {
	if s.Space == 1 {
		text += ", for system management mode"
	}
	for i, what := range []string{"dirty pages logged", "read-only"} {
		if s.Flags&(1<<i) != 0 {
			text += ", " + what
		}
	}
	return text
}

// originText marks a register whose value is not from the VMCS or VMCB.
func originText(v *guest.VCPU, o guest.Origin) string {
	switch {
	case o == guest.FromKVM:
		return "  kvm"
	case o == guest.FromKVMDirty && v.SVM != nil:
		return "  kvm, newer than the VMCB"
	case o == guest.FromKVMDirty:
		return "  kvm, newer than the VMCS"
	case o == guest.FromAPIC:
		return "  APIC page"
	}
	return ""
}

// registerFields are the fields that name a register's bits.
var registerFields = map[string]vmcs.Encoding{
	"RFLAGS": vmcs.GuestRFLAGS, "CR0": vmcs.GuestCR0, "CR4": vmcs.GuestCR4, "EFER": vmcs.GuestIA32EFER,
}

// printRegisters prints the registers as the guest sees them. Those from KVM's
// structures are marked, and what is unknown is a question mark.
func printRegisters(w io.Writer, m *guest.Machine, v *guest.VCPU) {
	fmt.Fprintf(w, "  registers, as the guest sees them (%s):\n", evidenceText(m, v))
	for _, r := range registers(v.Regs) {
		fmt.Fprintf(w, "    %-32s %s%s%s\n", r.name, r.Register, bitsText(r), originText(v, r.Origin))
	}
	for i, s := range v.Regs.Seg {
		fmt.Fprintf(w, "    %-4s %-6s  base %s  limit %s  %s\n", guest.SegNames[i], s.Selector, s.Base, s.Limit, rightsText(s))
	}
}

// rightsText puts a segment's access rights into words.
func rightsText(s guest.SegmentRegister) string {
	if !s.Rights.Known() {
		return "?"
	}
	return x86.RightsText(uint32(s.Rights.Value))
}

// evidenceText says how KVM's structure of the vCPU was found, or why its
// registers are not there.
func evidenceText(m *guest.Machine, v *guest.VCPU) string {
	switch ev := v.Regs.Evidence; {
	case ev.Held != 0:
		return fmt.Sprintf("KVM's are at %#x, found by %s", ev.Array, ev.Held)
	case ev.Pointers+ev.Words > 0:
		return fmt.Sprintf("KVM's structure is uncertain: %s to the VMCS, %s of control registers", message.Plural(ev.Pointers, "pointer"), message.Plural(ev.Words, "set"))
	case v.SVM != nil && v.SVM.Encryption() >= svm.SEVES, m.Encryption() == guest.TDX:
		return "which are encrypted"
	case m.FoundBy == guest.FoundByKVM && m.Within == nil:
		return "KVM's are those of the guest that it runs"
	}
	return "KVM's structure is not in the dump"
}

// bitsText names the bits set in a register; "" for one without names.
func bitsText(r namedRegister) string {
	e, ok := registerFields[r.name]
	if !ok {
		return ""
	}
	bits, ok := vmcs.FieldBits(e, r.Value)
	if !ok || len(bits) == 0 {
		return ""
	}
	return "  " + strings.Join(bits, " ")
}

// printFields prints the fields by group.
func printFields(w io.Writer, v *guest.VCPU) {
	for _, group := range []struct {
		kind vmcs.Kind
		name string
	}{{vmcs.Guest, "guest state"}, {vmcs.Control, "controls"}, {vmcs.ExitInfo, "exit information"}, {vmcs.Host, "host state"}} {
		fmt.Fprintf(w, "  %s:\n", group.name)
		for _, e := range v.Layout.Entries {
			if e.Known && e.Encoding.Kind() == group.kind && !e.Encoding.High() {
				printField(w, v, e)
			}
		}
	}
	other := "  unknown to this program:\n"
	for _, e := range v.Layout.Entries {
		if !e.Known {
			io.WriteString(w, other)
			printField(w, v, e)
			other = ""
		}
	}
}

func printField(w io.Writer, v *guest.VCPU, e vmcs.Entry) {
	x, ok := v.Value(e)
	if !ok {
		fmt.Fprintf(w, "    %-32s ?\n", message.Name(e.Name))
		return
	}
	fmt.Fprintf(w, "    %-32s %#x", message.Name(e.Name), x)
	if text := fieldText(v, e, x); text != "" {
		fmt.Fprintf(w, "  %s", text)
	}
	fmt.Fprintln(w)
}

// fieldText puts what a field holds into words; "" where there are none.
func fieldText(v *guest.VCPU, e vmcs.Entry, x uint64) string {
	if !e.Known {
		return ""
	}
	switch e.Encoding {
	case vmcs.VMExitReason:
		if v.NeverExited() {
			return neverRan
		}
		return vmcs.ExitReason(uint32(x))
	case vmcs.VMExitIntrInfo, vmcs.IDTVectoringInfoField, vmcs.VMEntryIntrInfoField:
		return vmcs.Interruption(uint32(x))
	case vmcs.EPTPointer:
		if p := x86.EPTP(x); p.Valid() && p.AccessedDirty() {
			return fmt.Sprintf("%d levels, accessed and dirty flags", p.Levels())
		} else if p.Valid() {
			return fmt.Sprintf("%d levels", p.Levels())
		}
	case vmcs.GuestActivityState:
		return vmcs.ActivityState(uint32(x))
	}
	if strings.HasSuffix(e.Name, "_AR_BYTES") {
		return vmcs.RightsText(uint32(x))
	}
	bits, ok := vmcs.FieldBits(e.Encoding, x)
	if !ok {
		return ""
	}
	if strings.HasSuffix(e.Name, "_GUEST_HOST_MASK") {
		// A hypervisor owns all bits that it does not know: only those with a
		// name tell something.
		bits = slices.DeleteFunc(bits, func(b string) bool { return strings.HasPrefix(b, "bit ") })
	}
	return strings.Join(bits, " ")
}
