package vmcs

import (
	"fmt"
	"strconv"
	"strings"
)

// A Processor is what the layout of a VMCS depends on. What is not known is
// zero.
type Processor struct {
	Vendor    string // as CPUID has it: GenuineIntel
	Family    uint64
	Model     uint64
	Stepping  uint64
	Microcode uint64
	// Type is "core" or "atom" on processors that have both.
	Type string
	// RevisionID is that of VMCSs, by IA32_VMX_BASIC.
	RevisionID uint32
	Hypervisor bool // it is a virtual one
}

// Processor returns the processor that a note's text names in its lines CPU_*
// and HYPERVISOR.
func (l *Layout) Processor() Processor {
	p := Processor{RevisionID: l.RevisionID}
	numbers := map[string]*uint64{"CPU_FAMILY": &p.Family, "CPU_MODEL": &p.Model, "CPU_STEPPING": &p.Stepping, "CPU_MICROCODE": &p.Microcode}
	for _, f := range l.Facts {
		switch f.Key {
		case "CPU_VENDOR":
			p.Vendor = f.Value
		case "CPU_TYPE":
			p.Type = f.Value
		case "HYPERVISOR":
			p.Hypervisor = f.Value != "0"
		default:
			if to := numbers[f.Key]; to != nil {
				*to, _ = strconv.ParseUint(strings.TrimPrefix(f.Value, "0x"), 16, 64)
			}
		}
	}
	return p
}

// Text returns the layout as a note's text, with offsets and what is known of
// the processor. It leaves out high halves and the layout's sources.
func (l *Layout) Text(p Processor) string {
	var b strings.Builder
	fmt.Fprintf(&b, "REVISION_ID=%x\nFORM=%s\n", l.RevisionID, FormOffsets)
	if l.Form == FormLearnt {
		b.WriteString("LEARNT=1\n")
	}
	if l.AccessRights != RightsUnknown {
		fmt.Fprintf(&b, "ACCESS_RIGHTS=%s\n", l.AccessRights)
	}
	if p.Vendor != "" {
		fmt.Fprintf(&b, "CPU_VENDOR=%s\n", p.Vendor)
	}
	if p.Family != 0 {
		fmt.Fprintf(&b, "CPU_FAMILY=%x\nCPU_MODEL=%x\nCPU_STEPPING=%x\n", p.Family, p.Model, p.Stepping)
	}
	if p.Microcode != 0 {
		fmt.Fprintf(&b, "CPU_MICROCODE=%x\n", p.Microcode)
	}
	if p.Type != "" {
		fmt.Fprintf(&b, "CPU_TYPE=%s\n", p.Type)
	}
	if p.Hypervisor {
		b.WriteString("HYPERVISOR=1\n")
	}
	for _, e := range l.Entries {
		if e.Width > 0 && !(e.Known && e.Encoding.High()) {
			fmt.Fprintf(&b, "FIELD(%s)=%x\n", e.Name, e.Offset)
		}
	}
	return b.String()
}

// Same reports whether two layouts have the same revision identifier, and all
// fields that both have in the same places.
func (l *Layout) Same(o *Layout) bool {
	return l.RevisionID == o.RevisionID && len(l.conflicts(o)) == 0
}
