package guestlist

import (
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/vmcs"
)

// Numbers that no process has, as a damaged dump may hold them, are printed as
// they are, and a question mark is for what is unknown.
func TestPrintFieldsNumbers(t *testing.T) {
	for _, tt := range []struct {
		name          string
		pid, tid, cpu int
		want          string
	}{
		{"of a process", 4700, 4711, 12, "4700 4711 12"},
		{"unknown", 0, 0, -1, "? ? ?"},
		{"negative", -5, -4711, -3, "-5 -4711 ?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &guest.VCPU{TID: tt.tid, HostCPU: tt.cpu}
			h := &Host{Host: &guest.Host{Found: new(vmcs.Result), Machines: []*guest.Machine{{PID: tt.pid, VCPUs: []*guest.VCPU{v}}}}}
			var b strings.Builder
			if err := h.PrintFields(&b, []string{"PID", "TID", "CPU"}); err != nil || b.String() != tt.want+"\n" {
				t.Errorf("%q, %v, want %q", &b, err, tt.want)
			}
		})
	}
}
