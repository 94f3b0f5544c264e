package sysfs

import (
	"strings"
	"testing"
)

func TestNoVMX(t *testing.T) {
	second := "\nprocessor\t: 1\nvendor_id\t: GenuineIntel\nflags\t\t: fpu\n"
	for _, tt := range []struct{ name, cpuinfo, want string }{
		{"Intel", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse\n" + second, ""},
		{"Intel, vmx is the last flag", "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx\n", ""},
		{"Intel without VMX", "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse\nvmx flags\t: ept\n", "no VMX"},
		{"Intel, only a part is known", "vendor_id\t: GenuineIntel\n", ""},
		{"Zhaoxin", "vendor_id\t:   Shanghai  \nflags\t\t: vmx\n", ""},
		{"AMD", "vendor_id\t: AuthenticAMD\nflags\t\t: svm\n" + second, "not an Intel processor (AuthenticAMD)"},
		{"Hygon", "vendor_id\t: HygonGenuine\nflags\t\t: svm\n", "not an Intel processor (HygonGenuine)"},
		{"arm64", "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n", "not an Intel processor"},
		{"empty", "", ""},
		{"larger than what is read", "vendor_id\t: AuthenticAMD\n\n" + strings.Repeat(second, 4000), "not an Intel processor (AuthenticAMD)"},
	} {
		if got := machine(t, map[string]string{"proc/cpuinfo": tt.cpuinfo}).NoVMX(); got != tt.want && !(tt.want == "no VMX" && strings.Contains(got, tt.want)) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := machine(t, nil).NoVMX(); got != "" {
		t.Errorf("no cpuinfo: %q", got)
	}
}
