package kvm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// openHost opens one of testdata/cores/linux-host.
func openHost(t testing.TB, name string) *linux.Kernel {
	t.Helper()
	image := testcores.Image(t, "linux-host/"+name)
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
	note, err := core.Notes().Note(i, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	k, err := linux.Open(core, string(note.Desc))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What the hosts printed before they were dumped:
// testdata/cores/linux-host/README.md.
func TestMachines(t *testing.T) {
	type vcpu struct {
		thread int
		comm   string
		state  State
	}
	type machine struct {
		pid   int
		slots int
		ram   uint64 // above 1 MiB
		vcpus []vcpu
	}
	tests := []struct {
		name     string
		amd      bool // kvm_amd has BTF
		machines []machine
		rip, rsp uint64 // of the first machine, which is paused, by QEMU's "info registers"
	}{
		// Slots and vCPUs in arrays; the first machine was being made.
		{"amd-5.10", false, []machine{
			{344, 2, 0, []vcpu{{0, "", InHost}}},
			{93, 12, 95 << 20, []vcpu{{103, "CPU 0/KVM", InGuest}, {104, "CPU 1/KVM", Halted}}},
		}, 0, 0},
		{"amd-6.1", true, []machine{
			{248, 12, 79 << 20, []vcpu{{257, "CPU 0/KVM", InVMM}}},
			{101, 12, 95 << 20, []vcpu{{108, "CPU 0/KVM", Halted}, {110, "CPU 1/KVM", InHost}}},
		}, 0xffffffffa02c2277, 0xffffd0df00013ab0},
		// -d 31 leaves out nothing of this.
		{"amd-6.1-d31", true, []machine{
			{248, 12, 79 << 20, []vcpu{{257, "CPU 0/KVM", InVMM}}},
			{101, 12, 95 << 20, []vcpu{{108, "CPU 0/KVM", Halted}, {110, "CPU 1/KVM", InHost}}},
		}, 0xffffffffa02c2277, 0xffffd0df00013ab0},
		{"amd-6.12", true, []machine{
			{209, 12, 79 << 20, []vcpu{{213, "CPU 0/KVM", InVMM}}},
			{156, 12, 95 << 20, []vcpu{{164, "CPU 0/KVM", InGuest}, {165, "CPU 1/KVM", Halted}}},
		}, 0xffffffff8d65f7c0, 0xffffcc7a405e3870},
		{"amd-7.3", true, []machine{
			{366, 12, 79 << 20, []vcpu{{380, "CPU 0/KVM", InHost}}},
			{115, 12, 95 << 20, []vcpu{{123, "CPU 0/KVM", Preempted}, {124, "CPU 1/KVM", Halted}}},
		}, 0, 0},
		// One CPU, on which the crash was: no guest ran.
		{"intel-6.1", false, []machine{
			{198, 1, 0, []vcpu{{198, "kvmguest", InVMM}, {198, "kvmguest", InVMM}}},
			{189, 1, 0, []vcpu{{189, "kvmguest", Preempted}}},
			{154, 10, 15 << 20, []vcpu{{162, "CPU 0/KVM", Halted}}},
			{138, 14, 15 << 20, []vcpu{{146, "CPU 0/KVM", Preempted}, {147, "CPU 1/KVM", Waiting}}},
		}, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, err := Open(openHost(t, test.name))
			if err != nil {
				t.Fatal(err)
			}
			intel := strings.HasPrefix(test.name, "intel-")
			if v.AMD == intel || v.Intel != intel || v.VendorError != nil {
				t.Errorf("Intel is %v, AMD is %v (%v)", v.Intel, v.AMD, v.VendorError)
			}
			var got []machine
			for m, err := range v.Machines() {
				if err != nil {
					t.Fatal(err)
				}
				g := machine{pid: m.PID}
				slots, err := m.Slots()
				if g.slots = len(slots); err != nil {
					t.Error(err)
				}
				for _, s := range slots {
					if s.Space == 0 && s.GPA == 1<<20 {
						g.ram = s.Size
					}
				}
				process, ok, err := m.Process()
				if pid, _ := process.TGID(); !ok || err != nil || pid != m.PID {
					t.Errorf("the process is %d (%v), want %d", pid, err, m.PID)
				}
				for c, err := range m.VCPUs() {
					if err != nil {
						t.Fatal(err)
					}
					if c.ID != len(g.vcpus) || (c.Task == nil) != (c.Thread == 0) || (c.SVM == nil) == test.amd || (c.VMX == nil) == intel || c.Nested {
						t.Fatalf("vCPU %+v", c)
					}
					if test.amd && (c.SVM.VMCB != c.SVM.VMCB01 || c.SVM.VMCB%4096 != 0 || c.SVM.VMCB == 0) {
						t.Errorf("vCPU %d: VMCB %+v", c.ID, c.SVM)
					}
					if intel && (c.VMX.VMCS != c.VMX.VMCS01 || c.VMX.VMCS%4096 != 0 || c.VMX.VMCS == 0 || c.VMX.VMCS02 != 0) {
						t.Errorf("vCPU %d: VMCS %+v", c.ID, c.VMX)
					}
					comm := ""
					if c.Task != nil {
						comm, _ = c.Task.Comm()
					}
					g.vcpus = append(g.vcpus, vcpu{c.Thread, comm, c.State})
					if len(got) == 0 && test.rip != 0 && (c.Regs.RIP != test.rip || c.Regs.GPR[4] != test.rsp) {
						t.Errorf("RIP %#x, RSP %#x, want %#x, %#x", c.Regs.RIP, c.Regs.GPR[4], test.rip, test.rsp)
					}
				}
				got = append(got, g)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.machines) {
				t.Errorf("%v, want %v", got, test.machines)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	v, err := Open(openHost(t, "amd-6.12"))
	if err != nil {
		t.Fatal(err)
	}
	// The first machine, its 6 slots of the first space, then no more.
	v.budget = 7
	var last error
	n := 0
	for m, err := range v.Machines() {
		if n++; err != nil {
			last = err
			continue
		}
		if slots, err := m.Slots(); len(slots) != 6 || !errors.Is(err, linux.ErrTooMany) {
			t.Errorf("%d slots (%v)", len(slots), err)
		}
		for _, err := range m.VCPUs() {
			if !errors.Is(err, linux.ErrTooMany) {
				t.Errorf("a vCPU: %v", err)
			}
		}
	}
	if n != 2 || !errors.Is(last, linux.ErrTooMany) {
		t.Errorf("%d machines, error is %v", n, last)
	}
}

// The slots before one that cannot be read are in order, as others are: who
// looks for an address in them relies on it. Until Linux 5.16 KVM has the
// highest first.
func TestSlotsBeforeAnError(t *testing.T) {
	for _, host := range []string{"amd-5.10", "amd-6.12"} {
		t.Run(host, func(t *testing.T) {
			v, err := Open(openHost(t, host))
			if err != nil {
				t.Fatal(err)
			}
			for m := range v.Machines() {
				if all, _ := m.Slots(); len(all) < 5 {
					continue
				}
				v.budget = 4
				all, err := m.Slots()
				if len(all) != 4 || !errors.Is(err, linux.ErrTooMany) || !slices.IsSortedFunc(all, func(a, b Slot) int { return cmp.Compare(a.GPA, b.GPA) }) {
					t.Errorf("%+v (%v)", all, err)
				}
				return
			}
			t.Error("no machine of 5 slots")
		})
	}
}

func TestState(t *testing.T) {
	for _, test := range []struct {
		name string
		c    circumstances
		want State
	}{
		{"in guest mode", circumstances{mode: 1, running: true}, InGuest},
		{"kicked", circumstances{mode: 2, running: true}, InGuest},
		{"never started", circumstances{mpState: 1, asleep: true}, Waiting},
		{"after INIT", circumstances{mpState: 2, asleep: true}, Waiting},
		{"HLT", circumstances{mpState: 3, blocking: true, asleep: true}, Halted},
		{"HLT before 5.15", circumstances{mpState: 3, asleep: true}, Halted},
		{"preempted", circumstances{preempted: true, asleep: true}, Preempted},
		{"paused", circumstances{asleep: true, outside: true}, InVMM},
		{"paused before 6.11", circumstances{asleep: true}, InVMM},
		{"an exit being handled", circumstances{running: true}, InHost},
		{"a device being emulated", circumstances{running: true, outside: true}, InVMM},
		{"the thread is not known", circumstances{}, InHost},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.c.state(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// kvm_x86_ops leads to the vendor, whether KVM is built in or not.
func TestVendor(t *testing.T) {
	c, v := newCrowd(t)
	ops, err := v.kvm.Symbol("kvm_x86_ops")
	if err != nil {
		t.Fatal(err)
	}
	if err := bind(v.kvm, v.fields.builtIn()); err != nil {
		t.Fatal(err)
	}
	// What vcpu_create leads to is not in this dump; vm_list stands for it.
	c.Put(ops+v.fields.ops.Create.Offset(), 8, v.list)
	if name, err := v.creator(); name != "vm_list" || err != nil {
		t.Errorf("%q (%v)", name, err)
	}
	for _, test := range []struct {
		function   string
		intel, amd bool
	}{
		{"vmx_create_vcpu", true, false},
		{"vmx_vcpu_create", true, false},
		{"vt_vcpu_create", true, false},
		{"svm_create_vcpu", false, true},
		{"svm_vcpu_create", false, true},
		{"", false, false},
	} {
		if intel, amd := vendorOf(test.function); intel != test.intel || amd != test.amd {
			t.Errorf("%q: Intel is %v, AMD is %v", test.function, intel, amd)
		}
	}
}

func TestRegisterBits(t *testing.T) {
	known := registerBits{16, 17, 18, 19, 20, 21, 22, 23, 24}
	for _, test := range []struct {
		name string
		enum map[string]uint64
		err  error // of an enumerator that is not there
		want registerBits
	}{
		{"until 6.x", map[string]uint64{"VCPU_REGS_RIP": 16, "VCPU_EXREG_CR3": 19, "VCPU_EXREG_CR4": 20}, &linux.MemberError{}, registerBits{16, -1, -1, 19, 20, -1, -1, -1, -1}},
		{"7.x", map[string]uint64{"VCPU_REG_RIP": 17, "VCPU_REG_CR3": 18}, &linux.MemberError{}, registerBits{17, -1, -1, 18, -1, -1, -1, -1, -1}},
		{"no enum", nil, &linux.TypeError{}, known},
		{"no BTF", nil, linux.ErrNoBTF, known},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readBits(func(enum, name string) (uint64, error) {
				if v, ok := test.enum[name]; ok && enum == "kvm_reg" {
					return v, nil
				}
				return 0, test.err
			})
			if got != test.want || err != nil {
				t.Errorf("%v (%v), want %v", got, err, test.want)
			}
		})
	}
	if _, err := readBits(func(_, _ string) (uint64, error) { return 64, nil }); !errors.Is(err, linux.ErrCorrupt) {
		t.Errorf("bit 64: %v", err)
	}
	moved := registerBits{17, -1, -1, 30, -1, -1, -1, -1, -1}
	if got := moved.translate(1<<30 | 1<<17 | 1<<16 | 1<<RegRSP); got != 1<<RegCR3|1<<RegRIP|1<<RegRSP {
		t.Errorf("%#x", got)
	}
}

func TestOpenWithout(t *testing.T) {
	_, err := find(openHost(t, "amd-6.1"), "no_such_module")
	if err != nil {
		t.Error(err)
	}
	if err := noTypes(errors.Wrap(&linux.TypeError{Type: "kvm"}, "x")); !errors.Is(err, ErrNoTypes) {
		t.Error(err)
	}
	if err := noTypes(linux.ErrNoBTF); !errors.Is(err, ErrNoTypes) {
		t.Error(err)
	}
}
