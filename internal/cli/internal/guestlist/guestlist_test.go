package guestlist

import (
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// TestHypervisors: what a machine that is a hypervisor runs is told, or why it
// is not known, and no reason that is not the true one.
func TestHypervisors(t *testing.T) {
	inner := []*guest.Machine{{}}
	found := &vmcs.Result{Layout: vmcs.Builtin()[0], Trials: make([]vmcs.Trial, 1)}
	for _, tt := range []struct {
		name   string
		by     guest.FoundBy
		vendor guest.Vendor
		nested bool // --nested
		guests []*guest.Machine
		found  *vmcs.Result
		want   string
		more   bool // --nested may find more
	}{
		{"Intel, none loaded", guest.FoundByKVM, guest.Intel, false, nil, nil, "has none of its guests loaded", true},
		{"Intel, one loaded", guest.FoundByKVM, guest.Intel, false, inner, found, "its guests are listed by", true},
		{"Intel, searched", guest.FoundByKVM, guest.Intel, true, inner, found, "its guests are listed by", false},
		{"Intel, searched in vain", guest.FoundByKVM, guest.Intel, true, nil, &vmcs.Result{}, "in its memory there is no VMCS", false},
		{"AMD, none ran", guest.FoundByKVM, guest.AMD, false, nil, nil, "none of its guests ran", false},
		{"AMD, one ran", guest.FoundByKVM, guest.AMD, false, inner, nil, "lists those of its guests that ran", false},
		{"by VMCSs, not to be read", guest.FoundByVMCS, guest.Intel, false, nil, nil, "its memory cannot be read", false},
		{"by VMCSs, found", guest.FoundByVMCS, guest.Intel, false, inner, found, "its guests are listed by", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &guest.VCPU{Vendor: tt.vendor, Regs: &guest.Registers{CR4: guest.Register{Value: x86.CR4VMXE, Origin: guest.FromKVM}}}
			m := &guest.Machine{FoundBy: tt.by, VCPUs: []*guest.VCPU{v}, Nested: tt.guests, Found: tt.found}
			var b strings.Builder
			(&Host{Host: &guest.Host{Machines: []*guest.Machine{m}, Found: &vmcs.Result{}}}).printRest(&b, tt.nested)
			if !strings.Contains(b.String(), tt.want) || strings.Contains(b.String(), "--nested") != tt.more {
				t.Errorf("%s, expected %q", &b, tt.want)
			}
		})
	}
}
