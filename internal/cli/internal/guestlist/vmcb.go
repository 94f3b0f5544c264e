package guestlist

import (
	"fmt"
	"io"
	"strings"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/x86"
	"vmcsnote/svm"
)

// vmcbText puts what a field of a VMCB holds into words; bits are those that
// are set, if it is a field of bits. Both are empty if there are none.
func vmcbText(v *guest.VCPU, f svm.Field) (text string, bits []string) {
	x := v.SVM.Read(f)
	if bits, ok := svm.FieldBits(f, x); ok {
		return "", bits
	}
	if f.Offset == svm.ExitCode.Offset && v.NeverExited() {
		return neverRan, nil
	}
	return v.SVM.FieldText(f), nil
}

// printVMCB prints the fields of a VMCB.
func printVMCB(w io.Writer, v *guest.VCPU) {
	fmt.Fprintln(w, "  VMCB:")
	for _, f := range guestFields(v) {
		text, bits := vmcbText(v, f)
		if len(bits) > 0 {
			text = strings.Join(bits, " ")
		}
		fmt.Fprintf(w, "    %-32s %#x", f.Name, v.SVM.Read(f))
		if text != "" {
			fmt.Fprintf(w, "  %s", text)
		}
		fmt.Fprintln(w)
	}
}

// guestFields lists the fields of a vCPU's VMCB that are the guest's or about
// it. If the guest's registers are encrypted, the save area is the host's.
func guestFields(v *guest.VCPU) (fields []svm.Field) {
	hidden := v.SVM.Encryption() >= svm.SEVES
	for _, f := range svm.Fields() {
		if !hidden || !f.Save() {
			fields = append(fields, f)
		}
	}
	return fields
}

// reportVMCB fills in the VMCB's fields and segments.
func (r *vcpuReport) reportVMCB(v *guest.VCPU) {
	for _, f := range guestFields(v) {
		r.Fields[f.Name] = message.Hex(v.SVM.Read(f))
		text, bits := vmcbText(v, f)
		switch {
		case bits != nil:
			r.Bits[f.Name] = bits
		case text != "":
			r.Texts[f.Name] = text
		}
	}
	if v.SVM.Encryption() >= svm.SEVES || v.Regs == nil {
		return
	}
	for i, s := range v.Regs.Seg {
		if !s.Base.Known() {
			continue
		}
		rights := uint32(s.Rights.Value)
		r.Segments = append(r.Segments, segmentReport{guest.SegNames[i], message.Hex(s.Selector.Value), message.Hex(s.Base.Value), message.Hex(s.Limit.Value), message.Hex(s.Rights.Value), x86.RightsText(rights)})
	}
}

// EncryptedText says what of a machine is encrypted; "" if nothing is.
func EncryptedText(m *guest.Machine) string {
	switch e := m.Encryption(); e {
	case guest.NotEncrypted:
		return ""
	case guest.SEV:
		return e.String() + ": its memory is encrypted, its registers are not"
	default:
		return e.String() + ": its memory and its registers are encrypted"
	}
}
