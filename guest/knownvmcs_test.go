package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/fakelinux"
	"vmcsnote/linux"
	"vmcsnote/vmcs"
)

// The module vmcsinfo leads to the layout; otherwise the built-in ones are
// tried on KVM's VMCSs alone.
func TestKnownLayout(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	note := layoutNote(layout)
	for _, tt := range []struct {
		name  string
		note  []byte // that the module publishes
		size  uint64
		from  LayoutSource
		known bool // whether VMCSs can be read
		fault bool
	}{
		{"published by the module", note.Encode(binary.LittleEndian), 1 << 14, LayoutOfMemory, true, false},
		{"a note that is none", make([]byte, 64), 64, LayoutTried, true, true},
		{"a note larger than any", note.Encode(binary.LittleEndian), 1 << 62, LayoutOfMemory, true, false},
		{"no module", nil, 0, LayoutTried, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, found, nil)
			if tt.note != nil {
				buffer := f.Alloc(int(min(tt.size, elfnote.MaxBlob)))
				f.Put(buffer, tt.note)
				f.module("vmcsinfo", map[string]uint64{"note": f.Alloc(8, 0, buffer), "note_size": f.Alloc(8, 0, tt.size)})
			}
			h := f.finish()
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
				t.Fatal(err, h.NoKVM)
			}
			if h.LayoutFrom != tt.from || (h.KVMError != nil) != tt.fault || (h.Found.Layout != nil) != tt.known {
				t.Errorf("layout %v from %d (%v)", h.Found.Layout != nil, h.LayoutFrom, h.KVMError)
			}
			n, ok := h.VMCSInfo()
			if ok != tt.known || tt.from == LayoutOfMemory && string(n.Desc) != string(note.Desc) {
				t.Errorf("VMCSINFO: %v, %d bytes", ok, len(n.Desc))
			}
			for _, m := range h.Machines {
				for _, v := range m.VCPUs {
					if v.HasVMCS() != tt.known || v.VMCSAddr == 0 {
						t.Errorf("machine %s: %+v", m.ID(), v)
					}
				}
			}
		})
	}
}

// vmcs12Of returns a VMCS as a hypervisor in a machine of KVM's has it: all
// fields of a sound VMCS, but for RIP and RSP.
func vmcs12Of(w *VCPU, rip uint64) []byte {
	page := make([]byte, vmcs.PageSize)
	binary.LittleEndian.PutUint32(page, 0x11e57ed0)
	for _, entry := range vmcs.BuiltinFor(0x11e57ed0)[0].Entries {
		x, ok := w.Read(entry.Encoding)
		switch entry.Encoding {
		case vmcs.GuestRIP:
			x = rip
		case vmcs.GuestRSP:
			x = 0x2222
		}
		if ok && entry.Known {
			copy(page[entry.Offset:entry.Offset+entry.Width], binary.LittleEndian.AppendUint64(nil, x))
		}
	}
	return page
}

// A vCPU in a guest of its guest: the machine's own VMCS is VMCS01, and the
// guest's guest is listed below it, by VMCS12, with the state that is in
// VMCS02.
func TestNestedByKVM(t *testing.T) {
	core, layout := openCore(t, intelHosts[2].core), noteLayout(t, "../testdata/cores/"+intelHosts[2].layout)
	found := inferred(t, core, layout)
	w := found.Machines[0].VCPUs[0]
	vmcs12 := vmcs12Of(w, 0x1111)
	const gpa = 0x5000
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			f := newFakeHost(core)
			_, vcpus := f.machine("outer", 1000, found.Machines[0].Process, nil, fakeVCPU{vmcs: w.VMCSAddr, array: w.Regs.Evidence.Array, tid: 1000})
			cached := f.Alloc(vmcs.PageSize)
			f.Put(cached, vmcs12)
			f.Put(vcpus[0]+vmxCached, fakelinux.LE64(cached))
			f.Put(vcpus[0]+vmxCurrent, fakelinux.LE64(gpa))
			if running {
				// VMCS02 is the VMCS there is, and the machine's own a copy.
				own := (f.Heap + 4095) &^ 4095
				f.Heap = own + 4096
				page := append([]byte{}, w.Page...)
				f.Put(own, page)
				f.Put(vcpus[0]+vmx01, fakelinux.LE64(own))
				f.Put(vcpus[0]+vmx02, fakelinux.LE64(fakelinux.Direct+w.VMCSAddr))
				f.Put(vcpus[0]+vmxLoaded, fakelinux.LE64(vcpus[0]+vmx02))
			}
			h := f.finish()
			h.SetLayout(layout, nil)
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil || len(h.Machines) != 1 {
				t.Fatal(err, h.NoKVM)
			}
			m := h.Machines[0]
			if len(m.Nested) != 1 || len(m.Nested[0].VCPUs) != 1 {
				t.Fatalf("%+v, found %+v", m.Nested, m.Found)
			}
			n, v := m.Nested[0], m.Nested[0].VCPUs[0]
			if err := h.FindRegisters(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			if n.ID() != "0.0" || n.FoundBy != FoundByKVM || v.Addr != gpa || h.Machine("0.0") != n {
				t.Errorf("%+v", n)
			}
			rip, rax := uint64(0x1111), false
			if running {
				rip, rax = w.Regs.RIP.Value, true
				if m.VCPUs[0].VMCSAddr == w.VMCSAddr || m.VCPUs[0].Regs.GPR[RAX].Known() || v.TID != 1000 || v.State == "" {
					t.Errorf("outer %+v, inner %+v", m.VCPUs[0], v)
				}
			}
			if v.Regs.RIP.Value != rip || v.Regs.GPR[RAX].Known() != rax || v.RIP() != v.Regs.RIP {
				t.Errorf("RIP %v, RAX %v, want %#x", v.Regs.RIP, v.Regs.GPR[RAX], rip)
			}
			if got, _ := v.Read(vmcs.GuestRSP); running && got == 0x2222 {
				t.Error("VMCS12 has its old state")
			}
		})
	}
}

// A thousand machines of 8 vCPUs, each with a VMCS, on a host without other
// memory.
func TestThousandMachines(t *testing.T) {
	const machines, vcpus = 1000, 8
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	page := found.Machines[0].VCPUs[0].Page
	f := newFakeHost(core)
	for i := range machines {
		var all []fakeVCPU
		for range vcpus {
			at := (f.Heap + 4095) &^ 4095
			f.Heap = at + 4096
			f.Put(at, page)
			all = append(all, fakeVCPU{vmcs: at - fakelinux.Direct, tid: uint32(1000 + i)})
		}
		f.machine(fmt.Sprintf("vm%d", i), uint32(1000+i), found.Machines[0].Process, []Slot{{GPA: 0, HVA: 0x7f0000000000, Size: 1 << 30}, {GPA: 0, HVA: 0x7f0000000000, Size: 1 << 20, Space: 1}}, all...)
	}
	h := f.finish()
	h.SetLayout(layout, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil || h.KVMError != nil {
		t.Fatal(err, h.NoKVM, h.KVMError)
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := 0
	for i, m := range h.Machines {
		if m.Name != fmt.Sprintf("vm%d", i) || len(m.Slots) != 2 {
			t.Fatalf("machine %d: %+v", i, m)
		}
		for _, v := range m.VCPUs {
			if v.HasVMCS() && v.Regs != nil {
				n++
			}
		}
	}
	t.Logf("%v, %d MiB kept, %d MiB allocated", took, (after.HeapAlloc-before.HeapAlloc)>>20, (after.TotalAlloc-before.TotalAlloc)>>20)
	if n != machines*vcpus || after.HeapAlloc-before.HeapAlloc > 128<<20 {
		t.Errorf("%d vCPUs, %d MiB", n, (after.HeapAlloc-before.HeapAlloc)>>20)
	}
}

// A list of more machines than any host has, all of them the same process's,
// ends with an error.
func TestTooManyMachines(t *testing.T) {
	f := newFakeHost(openCore(t, intelHosts[0].core))
	first, _ := f.machine("vm", 1000, 0x1000, nil, fakeVCPU{tid: 1000})
	body := make([]byte, 80)
	if _, err := f.Kernel.ReadPhys(body, first-fakelinux.Direct); err != nil {
		t.Fatal(err)
	}
	for range maxMachines {
		m := f.Alloc(len(body))
		f.Put(m, body)
		f.list = append(f.list, m)
	}
	h := f.finish()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
		t.Fatal(err, h.NoKVM)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := 0
	for _, m := range h.Machines {
		n += len(m.VCPUs)
	}
	if len(h.Machines) != maxMachines || n != maxMachines || !errors.Is(h.KVMError, linux.ErrTooMany) {
		t.Errorf("%d machines, %d vCPUs (%v)", len(h.Machines), n, h.KVMError)
	}
	if kept := (after.HeapAlloc - before.HeapAlloc) >> 20; kept > 64 {
		t.Errorf("%d MiB", kept)
	} else {
		t.Logf("%d MiB", kept)
	}
}

// Cgroups with the longest path there is, of many machines, are not kept for
// all of them.
func TestTooLongCgroups(t *testing.T) {
	f := newFakeHost(openCore(t, intelHosts[0].core))
	first, _ := f.machine("vm", 1000, 0x1000, nil, fakeVCPU{tid: 1000})
	task := f.Process(2000, "qemu", "", f.Alloc(32, 0, f.Cgroup(slices.Repeat([]string{strings.Repeat("x", 4000)}, 127)...)))
	f.Put(first+kvmMM, fakelinux.LE64(f.word(task+24)))
	body := make([]byte, 80)
	if _, err := f.Kernel.ReadPhys(body, first-fakelinux.Direct); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		m := f.Alloc(len(body))
		f.Put(m, body)
		f.list = append(f.list, m)
	}
	h := f.finish()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
		t.Fatal(err, h.NoKVM)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(h.Machines) != 401 || len(h.Machines[400].Cgroup) < 500_000 {
		t.Errorf("%d machines, a cgroup of %d bytes", len(h.Machines), len(h.Machines[400].Cgroup))
	}
	if kept := (after.HeapAlloc - before.HeapAlloc) >> 20; kept > maxCommands>>20+32 {
		t.Errorf("%d MiB", kept)
	}
}
