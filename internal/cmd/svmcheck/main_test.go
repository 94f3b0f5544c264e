package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProcess(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	report := write("report", `{"guests":[{"name":"web01","cgroup":"/a.slice","pid":7,"vcpus":[{"id":0,"tid":9,"thread":"CPU 0/KVM"},{"id":1,"tid":10,"thread":"CPU 1/KVM"}]}]}`)
	for _, test := range []struct{ name, guest, truth, err string }{
		{"the truth", "web01", "pid 7\ncgroup /a.slice\nthread 7 qemu\nthread 9 CPU 0/KVM\nthread 10 CPU 1/KVM\n", ""},
		{"another process", "web01", "pid 8\ncgroup /a.slice\nthread 9 CPU 0/KVM\nthread 10 CPU 1/KVM\n", `"pid 7"`},
		{"another cgroup", "web01", "pid 7\ncgroup /b.slice\nthread 9 CPU 0/KVM\nthread 10 CPU 1/KVM\n", `"cgroup /a.slice"`},
		{"threads the other way round", "web01", "pid 7\ncgroup /a.slice\nthread 10 CPU 0/KVM\nthread 9 CPU 1/KVM\n", `"thread 9 CPU 0/KVM"`},
		{"another name", "db02", "", "no guest called db02"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := run([]string{"process", report, test.guest, write("truth", test.truth)})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v, want %q", err, test.err)
			}
		})
	}
}

// The report is as guests --json has it, of a vCPU whose registers are all
// those that QEMU prints.
func TestRegisters(t *testing.T) {
	truth := "../../../guest/testdata/amd-6.1.db02.registers"
	const report = `{"guests":[{"guest":"1","vcpus":[{"registers":{
		"RAX":{"value":"0x7"},"RBX":{"value":"0xffffffffa1ffc620"},"RCX":{"value":"0x0"},"RDX":{"value":"0x3f9"},
		"RSI":{"value":"0x1"},"RDI":{"value":"0xffffffffa1ffc620"},"RBP":{"value":"0x0"},"RSP":{"value":"0xffffd0df00013ab0"},
		"R8":{"value":"0x34"},"R9":{"value":"0xfbc"},"R10":{"value":"0x0"},"R11":{"value":"0x0"},
		"R12":{"value":"0xffff8e7504a9bc06"},"R13":{"value":"0x0"},"R14":{"value":"0xffff8e750399c000"},"R15":{"value":"0x0"},
		"RIP":{"value":"0xffffffffa02c2277"},"RFLAGS":{"value":"0x6"},"CR0":{"value":"0x80050033"},"CR2":{"value":"0x7ffd92e54c28"},
		"CR3":{"value":"0x4afa000"},"CR4":{"value":"0x3106b0"},"EFER":{"value":"0xd01"}},
		"segments":[
		{"name":"ES","selector":"0x0","base":"0x0","limit":"0x0","rights":"0x10000"},
		{"name":"CS","selector":"0x10","base":"0x0","limit":"0xffffffff","rights":"0xa09b"},
		{"name":"SS","selector":"0x18","base":"0x0","limit":"0xffffffff","rights":"0xc093"},
		{"name":"DS","selector":"0x0","base":"0x0","limit":"0x0","rights":"0x10000"},
		{"name":"FS","selector":"0x0","base":"0x2ad173c0","limit":"0x0","rights":"0x10000"},
		{"name":"GS","selector":"0x0","base":"0xffff8e7504a00000","limit":"0x0","rights":"0x10000"},
		{"name":"LDTR","selector":"0x0","base":"0x0","limit":"0x0","rights":"0x82"},
		{"name":"TR","selector":"0x40","base":"0xfffffe0000003000","limit":"0x4087","rights":"0x8b"}],
		"fields":{"save.gdtr.base":"0xfffffe0000001000","save.gdtr.limit":"0x7f","save.idtr.base":"0xfffffe0000000000","save.idtr.limit":"0xfff"}}]}]}`
	for _, test := range []struct{ name, from, to, err string }{
		{"the truth", "", "", ""},
		{"a register", `"RIP":{"value":"0xffffffffa02c2277"}`, `"RIP":{"value":"0xffffffffa02c2276"}`, "1 registers differ"},
		{"an unknown one", `"R12":{"value":"0xffff8e7504a9bc06"}`, `"R12":{}`, "1 registers differ"},
		{"a segment's rights", `"rights":"0xa09b"`, `"rights":"0xa0fb"`, "1 registers differ"},
		{"a table", `"save.idtr.limit":"0xfff"`, `"save.idtr.limit":"0x7f"`, "1 registers differ"},
		{"a vCPU that is not there", `"vcpus":[{`, `"vcpus":[{},{`, "guest 1 has 2 vCPUs, QEMU 1"},
		{"another guest", `"guest":"1"`, `"guest":"2"`, "has no guest 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report")
			if err := os.WriteFile(path, []byte(strings.Replace(report, test.from, test.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run([]string{"registers", path, "1", truth})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v, want %q", err, test.err)
			}
		})
	}
}
