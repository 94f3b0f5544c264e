package guestlist

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/svm"
	"vmcsnote/vmcs"
)

// FieldName is the name of a field or register as lists have it: in upper case.
func FieldName(s string) string { return strings.ToUpper(strings.TrimSpace(s)) }

// RegisterNames lists the registers that --field takes.
func RegisterNames() (names []string) {
	for _, r := range allRegisters(&guest.Registers{}) {
		names = append(names, r.name)
	}
	return names
}

// PrintFields prints the fields asked for, a line for each vCPU, in the order
// of the list. Where there is no value the line has a question mark in its
// place; a name that is nobody's is an error.
func (h *Host) PrintFields(out io.Writer, fields []string) error {
	for _, n := range fields {
		if slices.Contains(RegisterNames(), n) || slices.Contains(idNames, n) || slices.Contains(SystemNames, n) {
			continue
		}
		_, known := vmcs.FieldByName(n)
		if h.hasVMCB() && !known {
			_, known = svm.FieldByName(n)
		}
		if l := h.Found.Layout; l != nil && !known {
			_, known = l.Lookup(n)
		}
		if !known {
			return hint.With(errors.Errorf("--field %s: no field or register has that name", message.Name(n)),
				strings.TrimSpace(hint.DidYouMean(n, h.fieldNames())+" vmcsnote guests -v prints all; besides those there are "+strings.Join(slices.Concat(idNames, SystemNames), ", ")))
		}
	}
	w := bufio.NewWriter(out)
	for m := range h.All() {
		for _, v := range m.VCPUs {
			for i, n := range fields {
				if i > 0 {
					w.WriteByte(' ')
				}
				if text := idText(m, v, n); text != "" {
					w.WriteString(text)
				} else if slices.Contains(SystemNames, n) {
					w.WriteString(word(h.systemField(m, v, n)))
				} else {
					w.WriteString(valueText(v, n))
				}
			}
			w.WriteByte('\n')
		}
	}
	return w.Flush()
}

// idNames are what --field takes besides fields and registers: which machine
// and vCPU a line is about.
var idNames = []string{"GUEST", "VCPU", "VMCS", "EPTP", "VPID", "NAME", "UUID", "PID", "TID", "CPU", "STATE", "VMCB", "NCR3"}

// idText returns the value of one of idNames, or "". A question mark stands for
// what is unknown. Names have no blanks: these separate the fields.
func idText(m *guest.Machine, v *guest.VCPU, field string) string {
	switch field {
	case "GUEST":
		return m.ID()
	case "VCPU":
		return strconv.Itoa(v.Number)
	case "VMCS":
		return known(v.VMCSAddr)
	case "EPTP":
		return eptpText(m)
	case "VPID":
		return vpidText(v)
	case "NAME":
		return word(m.Name)
	case "UUID":
		return word(m.UUID)
	case "PID":
		return number(CountText(m.PID))
	case "TID":
		return number(CountText(v.TID))
	case "CPU":
		return number(hostCPUText(v))
	case "STATE":
		return word(v.State)
	case "VMCB":
		return known(v.VMCB)
	case "NCR3":
		return known(m.NCR3())
	}
	return ""
}

// word prints text as one word of ASCII.
func word(s string) string {
	if s == "" {
		return "?"
	}
	return strings.ReplaceAll(message.Name(s), " ", `\x20`)
}

// number turns the dash that lists have for an unknown number into a question
// mark.
func number(s string) string {
	if s == "-" {
		return "?"
	}
	return s
}

// known prints an address, of which 0 means that it is unknown.
func known(addr uint64) string {
	if addr == 0 {
		return "?"
	}
	return message.Hex(addr)
}

// hasVMCB reports whether any vCPU has a VMCB.
func (h *Host) hasVMCB() bool {
	for m := range h.All() {
		if slices.ContainsFunc(m.VCPUs, func(v *guest.VCPU) bool { return v.SVM != nil }) {
			return true
		}
	}
	return false
}

// fieldNames lists all that --field takes for this host.
func (h *Host) fieldNames() []string {
	if !h.hasVMCB() {
		return FieldNames(h.Found.Layout)
	}
	all := slices.Concat(RegisterNames(), idNames, SystemNames)
	for _, f := range svm.Fields() {
		all = append(all, FieldName(f.Name))
	}
	return all
}

// valueText returns a field's or register's value in hexadecimal, "?" without
// one.
func valueText(v *guest.VCPU, name string) string {
	if v.Regs != nil {
		for _, r := range allRegisters(v.Regs) {
			if r.name == name {
				return r.String()
			}
		}
	}
	if x, ok := v.Field(name); ok {
		return message.Hex(x)
	}
	return "?"
}

// A namedRegister is a register as people and --field name it.
type namedRegister struct {
	name string
	guest.Register
}

// registers lists the registers that are in no VMCS, or not as they are in it:
// what the guest sees of CR0 and CR4, what KVM knows better.
func registers(r *guest.Registers) []namedRegister {
	var all []namedRegister
	for i, n := range guest.GPRNames {
		all = append(all, namedRegister{strings.ToUpper(n), r.GPR[i]})
	}
	return append(all, namedRegister{"RIP", r.RIP}, namedRegister{"RFLAGS", r.RFLAGS},
		namedRegister{"CR0", r.CR0}, namedRegister{"CR2", r.CR2}, namedRegister{"CR3", r.CR3}, namedRegister{"CR4", r.CR4}, namedRegister{"CR8", r.CR8},
		namedRegister{"EFER", r.EFER}, namedRegister{"KERNEL_GS_BASE", r.KernelGSBase}, namedRegister{"APIC_ID", r.APICID})
}

// allRegisters lists those that --field takes: the segment registers as well,
// by their selectors, and by base, limit and rights as extract names them; of
// the two tables' registers the base stands for the whole.
func allRegisters(r *guest.Registers) []namedRegister {
	all := registers(r)
	hidden := func(name string, s guest.SegmentRegister) {
		all = append(all, namedRegister{name + ".BASE", s.Base}, namedRegister{name + ".LIMIT", s.Limit})
	}
	for i, n := range guest.SegNames {
		all = append(all, namedRegister{n, r.Seg[i].Selector}, namedRegister{n + ".RIGHTS", r.Seg[i].Rights})
		hidden(n, r.Seg[i])
	}
	all = append(all, namedRegister{"GDTR", r.GDTR.Base}, namedRegister{"IDTR", r.IDTR.Base})
	hidden("GDTR", r.GDTR)
	hidden("IDTR", r.IDTR)
	return all
}

// FieldNames lists all that --field takes; l may be nil.
func FieldNames(l *vmcs.Layout) []string {
	all := slices.Concat(RegisterNames(), idNames, SystemNames)
	for _, f := range vmcs.Fields() {
		all = append(all, f.Name)
	}
	for _, f := range svm.Fields() {
		all = append(all, f.Name)
	}
	if l != nil {
		for _, e := range l.Entries {
			if !e.Known {
				all = append(all, e.Name)
			}
		}
	}
	return all
}
