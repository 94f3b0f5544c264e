package guestlist

import (
	"os/exec"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/svm"
	"vmcsnote/vmcs"
)

// TestShellWord: a command line out of a dump, pasted into a shell, is the
// words that it was, and nothing that runs.
func TestShellWord(t *testing.T) {
	for _, tt := range []struct{ name, word, want string }{
		{"plain", "-name", "-name"},
		{"empty", "", "''"},
		{"a blank", "a b", "'a b'"},
		{"a command", "$(touch x)", "'$(touch x)'"},
		{"a quote", "it's", `'it'\''s'`},
		{"a command after a quote", "';touch x;'", `''\'';touch x;'\'''`},
		{"a line", "a\nb", `'a\x0ab'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shellWord(tt.word)
			if got != tt.want {
				t.Errorf("%s, expected %s", got, tt.want)
			}
			if strings.Contains(tt.word, "\n") {
				return // shown, not kept
			}
			sh, err := exec.LookPath("sh")
			if err != nil {
				return
			}
			out, err := exec.Command(sh, "-c", `printf %s `+got).Output()
			if err != nil || string(out) != tt.word {
				t.Errorf("a shell takes %s for %q (%v)", got, out, err)
			}
		})
	}
}

// TestUnknownTables: what translates a machine's addresses, and why KVM's
// registers are missing, is told as it is on either vendor's processors, or not
// at all.
func TestUnknownTables(t *testing.T) {
	block := func(control byte) *svm.VMCB { // nested_ctl
		page := make([]byte, svm.PageSize)
		page[0x90] = control
		b, err := svm.New(0x1000, page)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const copies, encrypted = "KVM's are those of the guest that it runs", "which are encrypted"
	for _, tt := range []struct {
		name             string
		within           *guest.Machine
		vcpu             guest.VCPU
		paging, evidence string
	}{
		{"Intel, no VMCS read", nil, guest.VCPU{}, "EPT or nested page tables unknown", copies},
		{"Intel, none ran", nil, guest.VCPU{Candidate: &vmcs.Candidate{}}, "no EPT yet", copies},
		{"AMD, none ran", nil, guest.VCPU{SVM: block(1)}, "no nested page tables yet", copies},
		{"AMD, without nested paging", nil, guest.VCPU{SVM: block(0)}, "shadow page tables", copies},
		{"SEV-ES", nil, guest.VCPU{SVM: block(7)}, "no nested page tables yet", encrypted},
		{"a guest's guest without nested paging", &guest.Machine{}, guest.VCPU{SVM: block(1)}, "shadow page tables", "KVM's structure is not in the dump"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &tt.vcpu
			v.Regs = &guest.Registers{}
			m := &guest.Machine{FoundBy: guest.FoundByKVM, Within: tt.within, VCPUs: []*guest.VCPU{v}}
			if got := pagingText(m); got != tt.paging {
				t.Errorf("%s, expected %s", got, tt.paging)
			}
			if got := evidenceText(m, v); got != tt.evidence {
				t.Errorf("%s, expected %s", got, tt.evidence)
			}
		})
	}
}
