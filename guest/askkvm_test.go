package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/kvm"
	"vmcsnote/internal/fakelinux"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// inferred returns what a search finds in a core, and its host.
func inferred(t testing.TB, core vmcore.Core, l *vmcs.Layout) *Host {
	t.Helper()
	h := OpenHost(core)
	if l != nil {
		h.SetLayout(l, nil)
	}
	if err := h.search(context.Background(), MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// kvmLike returns a kernel whose KVM has the machines that a search found, in
// the same order: with the registers where the search found them. change, if
// not nil, changes a machine's slots.
func kvmLike(t testing.TB, core vmcore.Core, found *Host, change func(m *Machine, slots []Slot) []Slot) *fakeHost {
	h := newFakeHost(core)
	for _, m := range found.Machines {
		var slots []Slot
		if mem, err := m.Memory(); err == nil {
			slots = mem.Slots()
		}
		if change != nil {
			slots = change(m, slots)
		}
		pid := uint32(1000 + m.Number)
		var vcpus []fakeVCPU
		for _, v := range m.VCPUs {
			vcpus = append(vcpus, fakeVCPU{vmcs: v.VMCSAddr, array: v.Regs.Evidence.Array, efer: v.Regs.EFER.Value, tid: pid})
		}
		h.machine(fmt.Sprintf("vm%d", m.Number), pid, m.Process, slots, vcpus...)
	}
	return h
}

// The dumps of Intel hosts whose guests are known.
var intelHosts = []struct{ core, layout string }{
	{"vmx/hsw-default/mini", "vmx/hsw-default"},
	{"vmx/penryn-no-ept/mini", "vmx/penryn-no-ept"},
	{"linux-guest/amd64-nokaslr-idle-parked/host-thin", "linux-guest/amd64-nokaslr-idle-parked"},
}

// KVM's structures and the search for VMCSs tell the same: machines, numbers,
// slots and registers.
func TestAgree(t *testing.T) {
	for _, tt := range intelHosts {
		t.Run(tt.core, func(t *testing.T) {
			core, layout := openCore(t, tt.core), noteLayout(t, "../testdata/cores/"+tt.layout)
			found := inferred(t, core, layout)
			h := kvmLike(t, core, found, nil).finish()
			h.SetLayout(layout, nil)
			if err := h.FindMachines(context.Background(), MachineSearch{Explain: true}); err != nil {
				t.Fatal(err)
			}
			if h.NoKVM != nil || h.KVMError != nil {
				t.Fatalf("%v, %v", h.NoKVM, h.KVMError)
			}
			for _, d := range h.Disagreements {
				t.Errorf("%s: by KVM %q, by VMCS %q", d.What, d.KVM, d.VMCS)
			}
			if len(h.Machines) != len(found.Machines) {
				t.Fatalf("%d machines, want %d", len(h.Machines), len(found.Machines))
			}
			for i, m := range h.Machines {
				w := found.Machines[i]
				if m.Name != fmt.Sprintf("vm%d", i) || m.PID != 1000+i || m.EPTP != w.EPTP || m.Process != w.Process || m.Shadow != w.Shadow || len(m.VCPUs) != len(w.VCPUs) {
					t.Errorf("machine %d: %+v\nwant %+v", i, m, w)
				}
				for j, v := range m.VCPUs {
					if !v.HasVMCS() || v.Vendor != Intel || v.TID != 1000+i || v.Thread != "qemu-system-x86" || v.HostCPU != j || v.Mode() != w.VCPUs[j].Mode() {
						t.Errorf("vCPU %d.%d: %+v", i, j, v)
					}
					if w.VCPUs[j].Regs.Evidence.Held != 0 && v.Regs.Evidence.Held != ByKVM {
						t.Errorf("vCPU %d.%d: registers by %s", i, j, v.Regs.Evidence.Held)
					}
				}
			}
		})
	}
}

// Where one of the two is wrong, it is told.
func TestDisagree(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	for _, tt := range []struct {
		name   string
		change func(m *Machine, s []Slot) []Slot
		edit   func(h *fakeHost)
		want   string // what of each disagreement
	}{
		{"a slot lies elsewhere", func(m *Machine, s []Slot) []Slot {
			if m.Number == 0 {
				s = []Slot{{GPA: s[0].GPA, HVA: s[0].HVA + 4096, Size: s[0].Size}}
			}
			return s
		}, nil, "[slot]"},
		{"KVM lacks a slot", func(m *Machine, s []Slot) []Slot { return s[:min(len(s), m.Number)] }, nil, "[slot]"},
		{"KVM lacks a machine", nil, func(h *fakeHost) { h.list = h.list[1:] }, "[vCPU]"},
		{"other registers", nil, func(h *fakeHost) {
			h.Put(fakelinux.Direct+found.Machines[0].VCPUs[0].Regs.Evidence.Array+8*RSI, fakelinux.LE64(0))
		}, "[]"}, // both read it
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, found, tt.change)
			if tt.edit != nil {
				tt.edit(f)
			}
			h := f.finish()
			h.SetLayout(layout, nil)
			if err := h.FindMachines(context.Background(), MachineSearch{Explain: true}); err != nil {
				t.Fatal(err)
			}
			var what []string
			for _, d := range h.Disagreements {
				what = append(what, d.What)
			}
			if fmt.Sprint(what) != tt.want {
				t.Errorf("%v, want %s", h.Disagreements, tt.want)
			}
		})
	}
}

// A search that finds no VMCS leaves the layout of those that KVM has.
func TestDisagreeAboutAll(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	h := kvmLike(t, core, inferred(t, core, layout), nil).finish()
	h.SetLayout(layout, nil)
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.compare(context.Background(), OpenHost(nothing{core}), MachineSearch{Explain: true}); err != nil {
		t.Fatal(err)
	}
	if h.Found.Layout == nil || len(h.Disagreements) == 0 {
		t.Errorf("layout %v, %d disagreements", h.Found.Layout, len(h.Disagreements))
	}
	h.Found.Ambiguous()
	h.Found.Disputes()
}

// With Explain a layout that is from a note in memory is one of the host's
// Notes, by which it is named.
func TestExplainedNotes(t *testing.T) {
	for _, tt := range intelHosts {
		t.Run(tt.core, func(t *testing.T) {
			core, layout := openCore(t, tt.core), noteLayout(t, "../testdata/cores/"+tt.layout)
			f := kvmLike(t, core, inferred(t, core, layout), nil)
			at := (f.Heap + 4095) &^ 4095
			f.Heap = at + 2*4096
			note := layoutNote(layout)
			f.Put(at, note.Encode(binary.LittleEndian))
			h := f.finish()
			if err := h.FindMachines(context.Background(), MachineSearch{Explain: true}); err != nil || h.NoKVM != nil {
				t.Fatal(err, h.NoKVM)
			}
			for _, tr := range h.Found.Trials {
				if _, ok := NoteOf(h.Notes, tr.From); !ok && tr.From.Form != vmcs.FormBuiltin {
					t.Errorf("a layout of none of the %d notes: %+v", len(h.Notes), tr)
				}
			}
		})
	}
}

// Memory comes by KVM's slots where EPT does not have it: what was lost before.
func TestSlotsMemory(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	w := found.Machines[0]
	before, err := w.Memory()
	if err != nil {
		t.Fatal(err)
	}
	const size = 2 << 20
	want := make([]byte, size)
	known := make([]bool, size/pageSize)
	for i := range known {
		n, _ := before.ReadPhys(want[i*pageSize:(i+1)*pageSize], uint64(i*pageSize))
		known[i] = n == pageSize
	}
	if !slices.Contains(known, true) {
		t.Fatal("no page to compare")
	}
	hva := before.Slots()[0].HVA
	for _, tt := range []struct {
		name  string
		gpa   uint64 // where the process's memory is in the guest
		table func(h *fakeHost, root uint64)
		vmcs  bool // the layout is known
	}{
		{"EPT as it is", 0, nil, true},
		{"the root of EPT is empty", 0, func(h *fakeHost, root uint64) { h.Put(fakelinux.Direct+root, make([]byte, pageSize)) }, true},
		{"a region that KVM has zapped", 0, func(h *fakeHost, root uint64) {
			table := h.word(fakelinux.Direct+root) &^ 4095 & (1<<52 - 1)
			h.Put(fakelinux.Direct+table, make([]byte, 8))
		}, true},
		{"memory above 4 GiB that EPT lacks", 4 << 30, nil, true},
		{"firmware below 4 GiB", 4<<30 - size, nil, true},
		{"the layout of VMCSs is not known", 0, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, found, func(*Machine, []Slot) []Slot { return []Slot{{GPA: tt.gpa, HVA: hva, Size: size}} })
			if tt.table != nil {
				tt.table(f, w.EPTP&^4095)
			}
			if !tt.vmcs {
				for _, m := range found.Machines {
					for _, v := range m.VCPUs {
						f.Put(fakelinux.Direct+v.VMCSAddr, fakelinux.LE32(0x77777777&maxUnknown))
					}
				}
			}
			h := f.finish()
			if tt.vmcs {
				h.SetLayout(layout, nil)
			}
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
				t.Fatal(err, h.NoKVM)
			}
			m := h.Machines[0]
			if m.VCPUs[0].HasVMCS() != tt.vmcs {
				t.Errorf("a VMCS: %v", m.VCPUs[0].HasVMCS())
			}
			mem, err := m.Memory()
			if err != nil || mem.Empty() {
				t.Fatal(err)
			}
			got := make([]byte, pageSize)
			for i, ok := range known {
				if !ok {
					continue
				}
				if _, err := mem.ReadPhys(got, tt.gpa+uint64(i*pageSize)); err != nil || !bytes.Equal(got, want[i*pageSize:(i+1)*pageSize]) {
					t.Fatalf("page %d: %v", i, err)
				}
			}
			if tally := mem.Tally(); tally.EPT+tally.Process == 0 || tt.table != nil && tally.Process == 0 {
				t.Errorf("%+v", tally)
			}
			if mem.Exceeds(1 << 40) {
				t.Error("more than a TiB")
			}
		})
	}
}

// maxUnknown are the bits of a revision identifier.
const maxUnknown = 1<<31 - 1

// A kernel that does not tell leaves the search for VMCSs, and the reason.
func TestFallback(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	for _, tt := range []struct {
		name   string
		before func(h *fakeHost)
		after  func(h *fakeHost)
		is     error
		text   string
	}{
		{name: "no VMCOREINFO", after: func(h *fakeHost) { h.info = "" }, text: "the dump has no VMCOREINFO"},
		{name: "VMCOREINFO of another kernel", after: func(h *fakeHost) { h.info = "OSRELEASE=2.6.9\n" }, text: "VMCOREINFO has no usable SYMBOL(swapper_pg_dir)"},
		{name: "no kallsyms", after: func(h *fakeHost) { h.dropInfo("SYMBOL(kallsyms") }, is: linux.ErrNoKallsyms},
		{name: "no BTF", before: func(h *fakeHost) { h.Types = fakelinux.NewBTF(nil) }, after: func(h *fakeHost) { h.Put(h.Symbols["__start_BTF"], make([]byte, 64)) }},
		{name: "BTF without KVM's types", before: func(h *fakeHost) { h.kvm.noTypes = true }, is: kvm.ErrNoTypes},
		{name: "KVM is not loaded", before: func(h *fakeHost) { h.kvm.noList = true }, is: ErrNoKVM},
		{name: "KVM is loaded, and has no symbol of its list", before: func(h *fakeHost) {
			h.kvm.noList = true
			h.module("kvm", map[string]uint64{"kvm_init": h.Alloc(8)})
		}, is: linux.ErrNoSymbol, text: "vm_list in module kvm: no such symbol"},
		{name: "a torn dump", after: func(h *fakeHost) { h.torn = true }, is: vmcore.ErrNoMemory},
		{name: "a list of machines that is not there", after: func(h *fakeHost) { h.Put(h.Symbols["vm_list"], fakelinux.LE64(0xffffc90000000000)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, found, nil)
			if tt.before != nil {
				tt.before(f)
			}
			h := f.finish()
			h.SetLayout(layout, nil)
			if tt.after != nil {
				tt.after(f)
			}
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
				t.Fatal(err)
			}
			if h.NoKVM == nil || tt.is != nil && !errors.Is(h.NoKVM, tt.is) || tt.text != "" && h.NoKVM.Error() != tt.text {
				t.Errorf("%v, want %v %q", h.NoKVM, tt.is, tt.text)
			}
			if bytes.ContainsRune([]byte(fmt.Sprint(h.NoKVM)), '\n') {
				t.Errorf("%v has several lines", h.NoKVM)
			}
			if len(h.Machines) != len(found.Machines) || h.Machines[0].FoundBy != FoundByVMCS || h.KVMError != nil {
				t.Errorf("%d machines, by %s (%v)", len(h.Machines), h.Machines[0].FoundBy, h.KVMError)
			}
		})
	}
}

// What KVM's structures lack does not hide the rest.
func TestPartial(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	for _, tt := range []struct {
		name     string
		before   func(h *fakeHost)
		after    func(h *fakeHost)
		machines int
		vmcs     bool
		is       error
	}{
		{"nothing lacks", nil, nil, 4, true, nil},
		{"no types of kvm_intel", func(h *fakeHost) { h.kvm.noVMX = true }, nil, 4, true, nil},
		{"vcpu_vmx lacks members", func(h *fakeHost) { h.kvm.noNested = true }, nil, 4, true, nil},
		{"the list of machines is a circle", nil, func(h *fakeHost) { h.Put(h.list[1], fakelinux.LE64(h.list[2])) }, 3, true, linux.ErrLoop},
		{"the list of machines ends in nothing", nil, func(h *fakeHost) { h.Put(h.list[1], fakelinux.LE64(0xffffc90000000000)) }, 3, true, nil},
		{"a running host", func(h *fakeHost) {
			psinfo := make([]byte, 136)
			copy(psinfo[40:], "vmlinux")
			h.notes = append(h.notes, elfnote.Note{Name: "CORE", Type: 3, Desc: psinfo})
		}, nil, 4, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, found, nil)
			if tt.before != nil {
				tt.before(f)
			}
			h := f.finish()
			h.SetLayout(layout, nil)
			if tt.after != nil {
				tt.after(f)
			}
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
				t.Fatal(err)
			}
			partial := tt.machines < len(found.Machines)
			if len(h.Machines) < tt.machines || h.NoKVM != nil || (h.KVMError != nil) != partial || tt.is != nil && !errors.Is(h.KVMError, tt.is) {
				t.Fatalf("%d machines, want %d (%v, %v)", len(h.Machines), tt.machines, h.NoKVM, h.KVMError)
			}
			for _, m := range h.Machines {
				for _, v := range m.VCPUs {
					if v.HasVMCS() != tt.vmcs || v.Regs == nil || v.Vendor != Intel {
						t.Errorf("machine %s: %+v", m.ID(), v)
					}
				}
				if _, err := m.Memory(); err != nil {
					t.Error(err)
				}
				m.Hypervisor()
				for _, v := range m.VCPUs {
					m.Virtual(v)
					v.Mode()
					v.LastExit()
					v.RIP()
				}
			}
		})
	}
}

// A vCPU that cannot be read leaves the others their numbers.
func TestNumbersStay(t *testing.T) {
	f := newFakeHost(openCore(t, intelHosts[0].core))
	kvm, _ := f.machine("vm", 1000, 0x1000, nil, fakeVCPU{tid: 1000}, fakeVCPU{tid: 1000}, fakeVCPU{tid: 1000})
	node := f.word(kvm+kvmVCPUs+8) &^ 3
	f.Put(node+40+8, fakelinux.LE64(0xffffc90000000000))
	h := f.finish()
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil || h.KVMError == nil {
		t.Fatal(err, h.NoKVM, h.KVMError)
	}
	var numbers []int
	for _, v := range h.Machines[0].VCPUs {
		numbers = append(numbers, v.Number)
	}
	if !slices.Equal(numbers, []int{0, 2}) || !strings.HasPrefix(h.KVMError.Error(), "vCPU at 0xffffc90000000000: ") {
		t.Errorf("vCPUs %d (%v)", numbers, h.KVMError)
	}
}
