package guest

import (
	"context"
	"encoding/binary"
	"testing"

	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/fakelinux"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/vmcs"
)

// page puts a page of its own into the kernel's memory, and returns its
// physical address.
func (h *fakeHost) page(b []byte) uint64 {
	at := (h.Heap + pageSize - 1) &^ (pageSize - 1)
	h.Heap = at + pageSize
	h.Put(at, append(make([]byte, 0, pageSize), b...))
	return at - fakelinux.Direct
}

// A machine on Intel's processors whose own kernel has a KVM. Of a VMCS that
// the machine has loaded, the machine's memory has an old one, the host the
// newer copy, and while it runs VMCS02 the state.
func TestOwnKVM(t *testing.T) {
	core, layout := openCore(t, intelHosts[2].core), noteLayout(t, "../testdata/cores/"+intelHosts[2].layout)
	w := inferred(t, core, layout).Machines[0].VCPUs[0]
	const old, copied = 0x3333, 0x1111
	for _, test := range []struct {
		name            string
		loaded, running bool
		rip             uint64
		state           string
	}{
		{"not loaded", false, false, old, "vmm"},
		{"loaded", true, false, copied, "vmm"},
		{"running", true, true, RegistersIn(&w.VMCS).RIP.Value, "guest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeHost(core)
			at := f.page(vmcs12Of(w, old))
			f.machine("inner", 7, 0x1000, []Slot{{GPA: 0, HVA: 0x7f0000000000, Size: 1 << 20}}, fakeVCPU{vmcs: at, tid: 7})
			// EPT maps all of the machine's memory to the same addresses.
			var large []byte
			for i := range uint64(512) {
				large = binary.LittleEndian.AppendUint64(large, i<<30|1<<7|7)
			}
			root := f.page(binary.LittleEndian.AppendUint64(nil, f.page(large)|7))
			h := f.finish()
			ept, err := newEPT(h.Core, x86.EPTP(root|0x1e), false)
			if err != nil {
				t.Fatal(err)
			}
			k, err := linux.Open(h.Core, f.info)
			if err != nil {
				t.Fatal(err)
			}
			outer := &VCPU{from: &kvm.VCPU{Nested: test.running, State: "guest", VMX: &kvm.VMX{VMCS12: at, VMCS02: w.VMCSAddr}}}
			m := &Machine{VCPUs: []*VCPU{outer}, memory: &Physical{host: h.Core, ept: ept}, kernel: k}
			a := &asked{Host: h, mem: h.Core, k: k, known: map[uint64]*vmcs.Candidate{w.VMCSAddr: w.Candidate}}
			l := &loaded{intel: map[uint64]*VCPU{1: outer}}
			if test.loaded {
				l.intel, l.pages = map[uint64]*VCPU{at: outer}, map[uint64][]byte{at: vmcs12Of(w, copied)}
			}
			if listed, err := a.ownKVM(context.Background(), m, MachineSearch{}, l); err != nil || !listed || h.KVMError != nil {
				t.Fatal(listed, err, h.KVMError)
			}
			if len(m.Nested) != 1 || !m.OwnKVM || m.Found.Layout.RevisionID != 0x11e57ed0 {
				t.Fatalf("%+v, found %+v", m.Nested, m.Found)
			}
			n := m.Nested[0]
			v := n.VCPUs[0]
			if n.Name != "inner" || n.PID != 7 || n.Within != m || len(n.Slots) != 1 || v.TID != 7 {
				t.Errorf("%+v, vCPU %+v", n, v)
			}
			if v.RIP().Value != test.rip || v.State != test.state {
				t.Errorf("RIP %v, %s; want %#x, %s", v.RIP(), v.State, test.rip, test.state)
			}
		})
	}
}

// A machine whose kernel lists none, though it runs one, is not believed.
func TestOwnKVMHides(t *testing.T) {
	core := openCore(t, intelHosts[2].core)
	f := newFakeHost(core)
	h := f.finish()
	k, err := linux.Open(h.Core, f.info)
	if err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{false, true} {
		m := &Machine{memory: &Physical{host: h.Core}, kernel: k, VCPUs: []*VCPU{{Regs: &Registers{CR4: Register{x86.CR4VMXE, FromKVM}}}}}
		l := new(loaded)
		if running {
			l.intel = map[uint64]*VCPU{0x1000: m.VCPUs[0]}
		}
		if listed, err := (&asked{Host: h, mem: h.Core, k: k}).ownKVM(context.Background(), m, MachineSearch{}, l); listed == running || err != nil || m.OwnKVM == running {
			t.Errorf("running %v: listed %v (%v)", running, listed, err)
		}
	}
}
