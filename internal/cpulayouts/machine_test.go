package cpulayouts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/vmcs"
)

// machine returns a root with these files.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestMachine(t *testing.T) {
	const cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 151\nstepping\t: 2\nmicrocode\t: 0x35\nflags\t\t: fpu vmx\n"
	msrs := strings.Repeat("\x00", vmxBasic) + "\x13\x00\x00\x80\x00\x05\xda\x00"
	want := vmcs.Processor{Vendor: "GenuineIntel", Family: 6, Model: 0x97, Stepping: 2, Microcode: 0x35}
	for _, tt := range []struct {
		name  string
		files map[string]string
		set   func(p *vmcs.Processor)
	}{
		{"/proc/cpuinfo alone", map[string]string{"proc/cpuinfo": cpuinfo}, func(*vmcs.Processor) {}},
		{"the MSR can be read: bit 31 is no part of the revision id", map[string]string{"proc/cpuinfo": cpuinfo, "dev/cpu/0/msr": msrs},
			func(p *vmcs.Processor) { p.RevisionID = 0x13 }},
		{"the MSR's device ends early", map[string]string{"proc/cpuinfo": cpuinfo, "dev/cpu/0/msr": msrs[:len(msrs)-1]}, func(*vmcs.Processor) {}},
		{"two types of cores, CPU 0 is of the second", map[string]string{"proc/cpuinfo": cpuinfo, "sys/devices/cpu_core/cpus": "8-15\n", "sys/devices/cpu_atom/cpus": "0-7,16\n"},
			func(p *vmcs.Processor) { p.Type = "atom" }},
		{"a virtual one whose microcode and stepping are hidden", map[string]string{"proc/cpuinfo": strings.NewReplacer("0x35", "", "stepping\t: 2", "stepping\t: unknown", "vmx", "vmx hypervisor").Replace(cpuinfo)},
			func(p *vmcs.Processor) { p.Microcode, p.Stepping, p.Hypervisor = 0, 0, true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := want
			tt.set(&want)
			if got, err := Machine(machine(t, tt.files)); err != nil || got != want {
				t.Errorf("%+v, %v\nwant %+v", got, err, want)
			}
		})
	}
	if _, err := Machine(t.TempDir()); err == nil {
		t.Error("no error without /proc/cpuinfo")
	}
}
