package vmm

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	const scope = `/machine.slice/machine-qemu\x2d3\x2dweb01.scope`
	for _, test := range []struct {
		name, command, comm, cgroup string
		want                        string
	}{
		{"QEMU's guest=", "/usr/bin/qemu-system-x86_64 -name guest=web01,debug-threads=on -m 1G", "", "", "web01"},
		{"guest= is not the first", "qemu-kvm -name debug-threads=on,guest=web01", "", "", "web01"},
		{"the plain form", "qemu -name web01,process=x", "", "", "web01"},
		{"two dashes", "qemu --name web01", "", "", "web01"},
		{"a comma in the name", "qemu -name guest=a,,b,debug-threads=on", "", "", "a,b"},
		{"only commas", "qemu -name ,,,,", "", "", ",,"},
		{"a blank in the name", "qemu -name guest=a\tb", "", "", "a b"},
		{"no name in -name", "qemu -name debug-threads=on", "qemu", "", "qemu[7]"},
		{"the command line ends with -name", "qemu -name", "qemu", "", "qemu[7]"},
		{"the name goes before the cgroup", "qemu -name guest=a", "", scope, "a"},
		{"the cgroup, without a command line", "", "qemu-system-x86", scope, "web01"},
		{"the cgroup of libvirt before 1.3", "", "qemu-kvm", `/machine.slice/machine-qemu\x2dweb01.scope`, "web01"},
		{"the cgroup without escapes", "", "qemu-kvm", "/machine.slice/machine-qemu-1-web01.scope", "web01"},
		{"a name that needs escapes", "", "qemu-kvm", `/machine.slice/machine-qemu\x2d12\x2da\x2db\x5fc.scope`, "a-b_c"},
		{"a name of digits", "", "qemu-kvm", `/machine.slice/machine-qemu\x2d12\x2d34.scope`, "34"},
		{"a name that is a number, no ID", "", "qemu-kvm", `/machine.slice/machine-qemu\x2d12.scope`, "12"},
		{"below the scope", "", "qemu-kvm", scope + "/libvirt/emulator", "web01"},
		{"libvirt's Cloud Hypervisor", "", "cloud-hyperviso", `/machine.slice/machine-ch\x2d1\x2dweb01.scope`, "web01"},
		{"libvirt without systemd", "", "qemu-kvm", "/machine/qemu-2-web01.libvirt-qemu/emulator", "web01"},
		{"old libvirt without systemd", "", "qemu-kvm", "/machine/web01.libvirt-qemu", "web01"},
		{"Proxmox", "", "kvm", "/qemu.slice/100.scope", "100"},
		{"a backslash that escapes nothing", "", "qemu-kvm", `/machine.slice/machine-qemu-1-a\xzz\x4.scope`, `a\xzz\x4`},
		{"no machine's cgroup", "", "qemu-kvm", "/user.slice/user-0.slice/session-1.scope", "qemu-kvm[7]"},
		{"nothing known", "", "", "", "[7]"},
		{"Firecracker", "/usr/bin/firecracker --id=vm-1 --api-sock /run/fc.sock", "firecracker", "/", "vm-1"},
		{"Firecracker in its jail", "firecracker --id vm-1 --start-time-us 1", "fc", "/", "vm-1"},
		{"Firecracker without ID", "firecracker --api-sock /run/web01.socket", "firecracker", "/", "web01"},
		{"Cloud Hypervisor", "cloud-hypervisor --api-socket /run/web01.sock --cpus boot=1", "cloud-hyperviso", "/", "web01"},
		{"Cloud Hypervisor with path=", "cloud-hypervisor --api-socket path=/run/web01.sock", "cloud-hyperviso", "/", "web01"},
		{"Cloud Hypervisor by a descriptor", "cloud-hypervisor --api-socket fd=3", "cloud-hyperviso", "/", "cloud-hyperviso[7]"},
		{"crosvm", "/usr/bin/crosvm run --name web01 -s /run/x.sock", "crosvm", "/", "web01"},
		{"crosvm by its socket", "crosvm run -s /run/crosvm/web01.sock vmlinux", "crosvm", "/", "web01"},
		{"kvmtool", "lkvm run --name web01 -k bzImage", "kvm-vcpu-0", "/", "web01"},
		{"-s of QEMU is no socket", "qemu -s -S", "qemu", "/", "qemu[7]"},
		{"a socket without a name", "firecracker --api-sock /run/.sock", "firecracker", "/", ".sock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Process{PID: 7, Comm: test.comm, Cgroup: test.cgroup}
			for _, arg := range strings.Fields(strings.ReplaceAll(test.command, "\t", "\x01")) {
				p.Command = append(p.Command, strings.ReplaceAll(arg, "\x01", " "))
			}
			if got := p.Name(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestUUID(t *testing.T) {
	const uuid = "00000000-0000-4000-8000-000000000001"
	p := Process{Command: []string{"qemu", "-uuid", uuid}}
	if got := p.UUID(); got != uuid {
		t.Errorf("%q", got)
	}
	if got := (Process{Command: []string{"firecracker", "-uuid", uuid}}).UUID(); got != "" {
		t.Errorf("%q", got)
	}
}

// Whatever the arguments and the cgroup are, there is a name.
func FuzzName(f *testing.F) {
	f.Add("qemu\x00-name\x00guest=a,,b", `/machine.slice/machine-qemu\x2d3\x2dweb01.scope`)
	f.Fuzz(func(t *testing.T, command, cgroup string) {
		p := Process{Comm: "x", Command: strings.Split(command, "\x00"), Cgroup: cgroup}
		if p.Name() == "" {
			t.Error("no name")
		}
		p.UUID()
	})
}
