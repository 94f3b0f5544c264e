package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
	"vmcsnote/vmcs"
)

// save adds the list of VMCSs that a kernel with the patches in scripts/linux
// saves when it crashes, with what VMREAD returned of those that a search
// found.
func (h *fakeHost) save(t testing.TB, found *Host, leaveOut uint64) {
	t.Helper()
	le := binary.LittleEndian
	head := append(fakelinux.LE64(1<<32|0x4c435856), make([]byte, 8)...)
	for _, m := range found.Machines {
		for _, v := range m.VCPUs {
			if v.Addr == leaveOut {
				continue
			}
			page, n := make([]byte, pageSize), uint32(0)
			le.PutUint32(page, 0x52435856)
			copy(page[8:], head[8:])
			le.PutUint64(page[16:], v.Addr)
			for _, e := range v.Layout.Entries {
				if x, ok := v.Value(e); ok && e.Known && !e.Encoding.High() {
					le.PutUint32(page[32+16*n:], uint32(e.Encoding))
					le.PutUint64(page[32+16*n+8:], x)
					n++
				}
			}
			le.PutUint32(page[24:], n)
			h.Heap = (h.Heap + pageSize - 1) &^ (pageSize - 1)
			at := h.Alloc(pageSize)
			h.Put(at, page)
			le.PutUint64(head[8:], at-fakelinux.Direct)
		}
	}
	h.Lines = append(h.Lines, fmt.Sprintf("SYMBOL(vmx_crash_list)=%x", h.Image("vmx_crash_list", head)))
}

// A dump with the VMCSs that the kernel saved needs no layout: all registers
// are those of a search with one, with KVM's structures and without. The pages
// of the VMCSs are overwritten, so that nothing else can tell them.
func TestSaved(t *testing.T) {
	for _, host := range intelHosts {
		core, layout := openCore(t, host.core), noteLayout(t, "../testdata/cores/"+host.layout)
		want := inferred(t, core, layout)
		for _, kvm := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, KVM %v", host.core, kvm), func(t *testing.T) {
				f := kvmLike(t, core, want, nil)
				f.kvm.noList = !kvm
				f.save(t, want, 0)
				for _, m := range want.Machines {
					for _, v := range m.VCPUs {
						f.Put(fakelinux.Direct+v.Addr+8, make([]byte, pageSize-8))
					}
				}
				h := f.finish()
				if err := h.FindMachines(context.Background(), MachineSearch{Explain: kvm}); err != nil {
					t.Fatal(err)
				}
				if err := h.FindRegisters(context.Background(), nil); err != nil {
					t.Fatal(err)
				}
				if (h.NoKVM == nil) != kvm || h.SavedError != nil || h.KVMError != nil || len(h.Disagreements) > 0 {
					t.Errorf("%v, %v, %v, %v", h.NoKVM, h.SavedError, h.KVMError, h.Disagreements)
				}
				if _, ok := h.VMCSInfo(); ok || h.Found.Layout.Form != vmcs.FormSaved {
					t.Errorf("layout %s, which would pass for a processor's: %v", h.Found.Layout.Form, ok)
				}
				if len(h.Machines) != len(want.Machines) {
					t.Fatalf("%d machines, want %d", len(h.Machines), len(want.Machines))
				}
				for i, m := range h.Machines {
					if len(m.VCPUs) != len(want.Machines[i].VCPUs) || m.EPTP != want.Machines[i].EPTP {
						t.Fatalf("machine %d: %d vCPUs, EPT %#x", i, len(m.VCPUs), m.EPTP)
					}
					for k, v := range m.VCPUs {
						sameSaved(t, v.Regs, want.Machines[i].VCPUs[k].Regs)
					}
				}
			})
		}
	}
}

// sameSaved compares the registers that a VMCS has.
func sameSaved(t *testing.T, got, want *Registers) {
	t.Helper()
	list := func(r *Registers) (all []Register) {
		all = append(all, r.RFLAGS, r.CR0, r.CR4, r.SysenterEIP, r.GDTR.Base, r.GDTR.Limit, r.IDTR.Base, r.IDTR.Limit)
		for _, s := range r.Seg {
			all = append(all, s.Selector, s.Base, s.Limit, s.Rights)
		}
		return all
	}
	w := list(want)
	for i, r := range list(got) {
		if w[i].Known() {
			if w[i].Origin == FromVMCS {
				w[i].Origin = FromSaved
			}
			if r != w[i] {
				t.Errorf("register %d: %s by %s, want %s by %s", i, r, r.Origin, w[i], w[i].Origin)
			}
		}
	}
	if got.RIP.Value != want.RIP.Value || got.GPR[RSP].Value != want.GPR[RSP].Value {
		t.Errorf("RIP %s, RSP %s, want %s, %s", got.RIP, got.GPR[RSP], want.RIP, want.GPR[RSP])
	}
}

// What is wrong with the list is told, and the rest is used; a vCPU without a
// record has no VMCS, because memory may hold an old one.
func TestSavedPartly(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	want := inferred(t, core, layout)
	lost := want.Machines[0].VCPUs[0].Addr
	for _, tt := range []struct {
		name   string
		change func(f *fakeHost)
		given  bool
		form   vmcs.Form
		bad    bool
		has    bool // the vCPU whose record is not there
	}{
		{name: "a record is not there", form: vmcs.FormSaved},
		{name: "the list is no list", change: func(f *fakeHost) { f.Put(f.Symbols["vmx_crash_list"], make([]byte, 8)) }, form: vmcs.FormOffsets, bad: true, has: true},
		{name: "its address is none", change: func(f *fakeHost) {
			f.dropInfo("SYMBOL(vmx_crash_list)")
			f.info += "SYMBOL(vmx_crash_list)=zz\n"
		}, form: vmcs.FormOffsets, bad: true, has: true},
		{name: "its address is not in the image", change: func(f *fakeHost) {
			f.dropInfo("SYMBOL(vmx_crash_list)")
			f.info += "SYMBOL(vmx_crash_list)=1000\n"
		}, form: vmcs.FormOffsets, bad: true, has: true},
		{name: "it is empty", change: func(f *fakeHost) { f.Put(f.Symbols["vmx_crash_list"]+8, make([]byte, 8)) }, form: vmcs.FormOffsets, has: true},
		{name: "it does not end", change: func(f *fakeHost) {
			at := f.word(f.Symbols["vmx_crash_list"] - 0xffffffff80000000 + fakelinux.Direct + 64<<30 + 8)
			f.Put(fakelinux.Direct+at+8, fakelinux.LE64(at))
		}, form: vmcs.FormSaved, bad: true},
		{name: "a layout is given", given: true, form: vmcs.FormOffsets, has: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, want, nil)
			f.save(t, want, lost)
			h := f.finish()
			if h.SetLayout(layout, nil); !tt.given {
				h.LayoutFrom = LayoutOfDump
			}
			if tt.change != nil {
				tt.change(f)
			}
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
				t.Fatal(err)
			}
			if h.NoKVM != nil || (h.SavedError != nil) != tt.bad || tt.bad && !errors.Is(h.SavedError, vmcs.ErrSaved) {
				t.Errorf("%v, %v", h.NoKVM, h.SavedError)
			}
			if h.Found.Layout.Form != tt.form {
				t.Errorf("layout %s, want %s", h.Found.Layout.Form, tt.form)
			}
			i := slices.IndexFunc(h.Machines[0].VCPUs, func(v *VCPU) bool { return v.VMCSAddr == lost })
			if i < 0 || h.Machines[0].VCPUs[i].HasVMCS() != tt.has {
				t.Errorf("vCPU %d has a VMCS: %v, want %v", i, !tt.has, tt.has)
			}
		})
	}
}
