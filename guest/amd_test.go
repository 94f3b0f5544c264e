package guest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/qemuregs"
	"vmcsnote/linux"
	"vmcsnote/svm"
	"vmcsnote/vmcore"
)

// amdHost opens one of testdata/cores/linux-host.
func amdHost(t testing.TB, name string) *Host {
	t.Helper()
	h := OpenHost(openCore(t, "linux-host/"+name))
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if h.NoKVM != nil || h.KVMError != nil {
		t.Fatal(h.NoKVM, h.KVMError)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// QEMU's "info registers" is the truth for the machine that was paused.
func TestAMDRegisters(t *testing.T) {
	for _, test := range []struct {
		host, truth string
		from        Origin // of RIP
	}{
		{"amd-6.1", "amd-6.1", FromKVMDirty}, // after the OUT that was emulated
		{"amd-6.1-d31", "amd-6.1", FromKVMDirty},
		{"amd-6.12", "amd-6.12", FromKVM},
	} {
		t.Run(test.host, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + test.truth + ".db02.registers")
			if err != nil {
				t.Fatal(err)
			}
			truth, err := qemuregs.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			v := amdHost(t, test.host).Machines[1].VCPUs[0]
			r := v.Regs
			got := map[string]Register{
				"RIP": r.RIP, "RFL": r.RFLAGS, "RFLAGS": r.RFLAGS, "CR0": r.CR0, "CR2": r.CR2, "CR3": r.CR3, "CR4": r.CR4, "EFER": r.EFER,
				"RAX": r.GPR[RAX], "RCX": r.GPR[RCX], "RDX": r.GPR[RDX], "RBX": r.GPR[RBX],
				"RSP": r.GPR[RSP], "RBP": r.GPR[RBP], "RSI": r.GPR[RSI], "RDI": r.GPR[RDI],
			}
			for i := R8; i <= R15; i++ {
				got[fmt.Sprintf("R%d", i)] = r.GPR[i]
			}
			for name, want := range truth[0].Registers {
				if g := got[name]; g.Value != want || !g.Known() {
					t.Errorf("%s is %s, want %#x", name, g, want)
				}
			}
			segments := map[string]SegmentRegister{"GDTR": r.GDTR, "IDTR": r.IDTR}
			for i, name := range SegNames {
				segments[name] = r.Seg[i]
			}
			for name, want := range truth[0].Segments {
				s := segments[name]
				g := qemuregs.SegmentState{Selector: s.Selector.Value, Base: s.Base.Value, Limit: s.Limit.Value, Flags: descriptorFlags(s.Rights.Value)}
				if g != want || !s.Base.Known() || !s.Limit.Known() {
					t.Errorf("%s is %#x, want %#x", name, g, want)
				}
			}
			if r.RIP.Origin != test.from || r.RFLAGS.Origin != FromVMCB || r.GPR[RBX].Origin != FromKVM || !r.KernelGSBase.Known() || !r.LongMode {
				t.Errorf("RIP is from %v, RFLAGS from %v, RBX from %v", r.RIP.Origin, r.RFLAGS.Origin, r.GPR[RBX].Origin)
			}
		})
	}
}

// What the list has: by the VMCB, which in 5.10 nothing but its place tells.
func TestAMDHosts(t *testing.T) {
	type vcpu struct{ mode, exit string }
	for _, test := range []struct {
		host  string
		vcpus [][]vcpu
	}{
		{"amd-5.10", [][]vcpu{{{"long", "IOIO out 0x60"}, {"long", "HLT"}}, {{"real", ""}}}},
		{"amd-6.1", [][]vcpu{{{"long", "HLT"}, {"long", "INTR"}}, {{"long", "IOIO out 0x3f9"}}}},
		{"amd-6.12", [][]vcpu{{{"long", "MSR write"}, {"long", "HLT"}}, {{"long", "INTR"}}}},
		{"amd-7.3", [][]vcpu{{{"long", "INTR"}, {"protected", "HLT"}}, {{"long", "INTR"}}}},
	} {
		t.Run(test.host, func(t *testing.T) {
			h := amdHost(t, test.host)
			var got [][]vcpu
			for _, m := range h.Machines {
				var all []vcpu
				for _, v := range m.VCPUs {
					if v.SVM == nil || v.SVM.Addr != v.VMCB || v.Vendor != AMD {
						t.Fatalf("VMCB %v at %#x", v.SVM, v.VMCB)
					}
					if faults := v.SVM.Check(); len(faults) > 0 && !v.NeverExited() {
						t.Errorf("%v", faults)
					}
					exit, ok := v.LastExit()
					if ok == v.NeverExited() {
						t.Errorf("%q", exit)
					}
					if rip, ok := v.Field("save.rip"); !ok || rip != v.SVM.Read(svm.RIP) {
						t.Errorf("save.rip is %#x", rip)
					}
					all = append(all, vcpu{v.Mode().String(), exit})
				}
				if (m.NCR3() == 0) != m.VCPUs[0].NeverExited() || m.NCR3() != m.VCPUs[0].SVM.Read(svm.NestedCR3) || m.Encryption() != NotEncrypted {
					t.Errorf("nested_cr3 %#x, %q", m.NCR3(), m.Encryption())
				}
				got = append(got, all)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.vcpus) {
				t.Errorf("%v, want %v", got, test.vcpus)
			}
		})
	}
}

// change changes bytes of a vCPU's VMCB.
func change(t *testing.T, v *VCPU, do func(page []byte)) {
	t.Helper()
	page := v.SVM.Page()
	do(page)
	changed, err := svm.New(v.SVM.Addr, page)
	if err != nil {
		t.Fatal(err)
	}
	v.SVM = changed
}

// encrypt makes a machine's VMCBs those of an encrypted guest.
func encrypt(t *testing.T, m *Machine, bits, features uint64) {
	t.Helper()
	for _, v := range m.VCPUs {
		change(t, v, func(page []byte) {
			page[svm.NestedCtl.Offset] |= byte(bits)
			for i := range 8 {
				page[svm.SEVFeatures.Offset+i] = byte(features >> (8 * i))
			}
		})
	}
}

// Of an encrypted guest nothing is read that could be taken for its state.
func TestAMDEncrypted(t *testing.T) {
	for _, test := range []struct {
		name           string
		bits, features uint64
		want           string
		registers      bool // can be read
	}{
		{"SEV", 1 << 1, 0, "SEV", true},
		{"SEV-ES", 3 << 1, 0, "SEV-ES", false},
		{"SEV-SNP", 3 << 1, 1<<63 | 1, "SEV-SNP", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := amdHost(t, "amd-6.12")
			m := h.Machines[1]
			encrypt(t, m, test.bits, test.features)
			if got := m.Encryption().String(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if _, err := m.Memory(); !errors.Is(err, ErrEncrypted) || err.Error() != test.want+": "+ErrEncrypted.Error() {
				t.Errorf("%v", err)
			}
			if _, err := m.Virtual(m.VCPUs[0]); !errors.Is(err, ErrEncrypted) {
				t.Errorf("%v", err)
			}
			m.AllowEncrypted()
			if _, err := m.Memory(); err != nil {
				t.Error(err)
			}
			r := new(Registers)
			r.takeVMCB(m.VCPUs[0].SVM, m.VCPUs[0].SVM)
			k, err := linux.Open(h.Core, VMCoreInfo(h.Core))
			if err != nil {
				t.Fatal(err)
			}
			(&asked{Host: h, k: k}).takeCopies(r, m.VCPUs[0], m.VCPUs[0].from)
			if got := r.RIP.Known() || r.GPR[RAX].Known() || r.Seg[CS].Base.Known() || r.CR3.Known(); got != test.registers {
				t.Errorf("registers are known: %v", got)
			}
		})
	}
}

// Without nested paging CR3 in the save area is KVM's own table, and the memory
// slots have all of the memory.
func TestAMDShadow(t *testing.T) {
	h := amdHost(t, "amd-6.12")
	m := h.Machines[1]
	v := m.VCPUs[0]
	cr3 := v.Regs.CR3
	change(t, v, func(page []byte) { page[svm.NestedCtl.Offset] &^= 1 })
	r := new(Registers)
	if r.takeVMCB(v.SVM, v.SVM); r.CR3.Known() || !r.CR0.Known() {
		t.Errorf("CR3 is %s", r.CR3)
	}
	if r.overlayAMD(&v.from.Regs); r.CR3 != cr3 || cr3.Value != 0x3c68000 {
		t.Errorf("CR3 is %s, want %s", r.CR3, cr3)
	}
	if m.NCR3() != 0 {
		t.Errorf("nested_cr3 is %#x", m.NCR3())
	}
	mem, err := m.Memory()
	if err != nil || mem.ept != nil || len(mem.Slots()) != 6 {
		t.Errorf("%d slots (%v)", len(mem.Slots()), err)
	}
}

// What VMLOAD and VMSAVE keep in a VMCB that cannot be read is unknown: the
// other VMCB of the vCPU has an old state of it.
func TestAMDStateUnknown(t *testing.T) {
	h := amdHost(t, "amd-6.12")
	v := h.Machines[1].VCPUs[0]
	for _, state := range []uint64{0, 1 << 50, v.VMCB} {
		w := &VCPU{VMCB: v.VMCB, Regs: new(Registers)}
		(&asked{Host: h, mem: h.Core}).readVMCB(w, state)
		known := state == v.VMCB
		if r := w.Regs; r.KernelGSBase.Known() != known || r.Seg[FS].Base.Known() != known || r.Seg[TR].Base.Known() != known || !r.Seg[DS].Base.Known() || !r.RIP.Known() {
			t.Errorf("state in the VMCB at %#x: %+v", state, r)
		}
	}
}

// A pageLost core lacks a page.
type pageLost struct {
	vmcore.Core
	page uint64
}

func (c pageLost) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr&^(pageSize-1) == c.page {
		return 0, vmcore.ErrExcluded
	}
	return c.Core.ReadPhys(p, addr)
}

// A guest of nest04 was given these registers, and its code was printed. KVM in
// nest04's kernel lists it with its process; without that kernel the host's KVM
// has its state alone.
func TestAMDNested(t *testing.T) {
	core := openCore(t, "linux-host/amd-6.1-nested")
	open := func(t *testing.T, c vmcore.Core) (outer, inner *Machine) {
		h := OpenHost(c)
		if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil || h.KVMError != nil {
			t.Fatal(err, h.NoKVM, h.KVMError)
		}
		inner = h.Machine("3.0")
		if outer = h.Machine("3"); inner == nil || len(outer.Nested) != 1 || inner.Within != outer {
			t.Fatalf("guests of guest 3: %+v", outer.Nested)
		}
		return outer, inner
	}
	outer, _ := open(t, core)
	mem, err := outer.Memory()
	if err != nil {
		t.Fatal(err)
	}
	cr3 := outer.VCPUs[0].Regs.CR3.Value
	tables, err := mem.Translate(cr3)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		core vmcore.Core
		own  bool
		pid  int
		cr4  uint64
	}{
		{"by KVM in its own kernel", core, true, 98, 0x620},
		{"by the host's KVM, for the page tables of nest04's kernel are missing", pageLost{core, (tables.Phys + cr3 - tables.Addr) &^ (pageSize - 1)}, false, 0, 0x660},
	} {
		t.Run(test.name, func(t *testing.T) {
			outer, inner := open(t, test.core)
			if outer.OwnKVM != test.own || inner.PID != test.pid || (inner.Comm == "kvmguest") != test.own || len(inner.Slots) == 1 != test.own {
				t.Errorf("own KVM %v, process %d %q, slots %+v", outer.OwnKVM, inner.PID, inner.Comm, inner.Slots)
			}
			if !outer.Hypervisor() || inner.Hypervisor() {
				t.Errorf("hypervisors: %v, %v", outer.Hypervisor(), inner.Hypervisor())
			}
			v := inner.VCPUs[0]
			r := v.Regs
			for name, reg := range map[string]struct {
				got  Register
				want uint64
			}{
				"RIP": {r.RIP, 0x20018}, "RSP": {r.GPR[RSP], 0x1bfff8}, "R15": {r.GPR[15], 0x5ec4e7c0e00000}, "RBX": {r.GPR[RBX], 0xbbbb0002},
				"CR3": {r.CR3, 0x30000}, "CR4": {r.CR4, test.cr4}, "FS": {r.Seg[FS].Base, 0x111122223000},
			} {
				if !reg.got.Known() || reg.got.Value != reg.want {
					t.Errorf("%s is %v, want %#x", name, reg.got, reg.want)
				}
			}
			if v.State != "guest" || v.TID != map[bool]int{true: 98, false: 179}[test.own] {
				t.Errorf("%s, thread %d", v.State, v.TID)
			}
			if !test.own {
				return // nothing of the machine's memory is there
			}
			mem, err := inner.Memory()
			if err != nil {
				t.Fatal(err)
			}
			code := make([]byte, 0x1a)
			if _, err := mem.ReadPhys(code, 0x20000); err != nil || fmt.Sprintf("%x", code) != "4c893c2500900000488b0425008000004157909090909090ebfe" {
				t.Errorf("code %x (%v)", code, err)
			}
		})
	}
}
