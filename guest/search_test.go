package guest

import (
	"context"
	"testing"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/vmcs"
)

// TestFindRegisters: which registers are the VMCS's, and which are of those
// that package infer finds.
func TestFindRegisters(t *testing.T) {
	const both = ByPointer | ByWords
	for _, tt := range []struct {
		name  string
		page  map[string]uint64
		make  func(m *fakekvm.Memory)
		held  Method
		first uint64 // RAX
		check func(r *Registers) bool
	}{
		{name: "both searches", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Point(0x1d234038, false)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.RIP == Register{fakekvm.GuestRIP, FromVMCS} && r.GPR[RSP] == Register{fakekvm.GuestRSP, FromVMCS} &&
				r.CR2 == Register{0x111, FromKVM} && r.CR3 == Register{0x57f6002, FromVMCS} && r.EFER == Register{0xd01, FromKVM} &&
				r.GPR[R15] == Register{0x10f, FromKVM} && r.Evidence.Pointers == 2 && r.Evidence.Words == 1 && r.Evidence.DirectMap == 0xffff888000000000
		}},
		{name: "RIP and RSP that KVM has changed", make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array, 0x100, 1<<fakekvm.RIP|1<<fakekvm.RSP)
			m.Point(fakekvm.Pointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.RIP == Register{0x110, FromKVMDirty} && r.GPR[RSP] == Register{0x104, FromKVMDirty}
		}},
		{name: "CR3 that KVM has changed", make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array, 0x100, 1<<19)
			m.Set(fakekvm.RSP, fakekvm.GuestRSP)
			m.Set(fakekvm.CR3, 0x1234000)
			m.Point(fakekvm.Pointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.CR3 == Register{0x1234000, FromKVMDirty} }},
		{name: "no EPT: CR3 is KVM's to know", page: map[string]uint64{"CPU_BASED_VM_EXEC_CONTROL": 0}, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.RSP, fakekvm.GuestRSP)
			m.Set(fakekvm.CR3, 0x999000)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.CR3 == Register{0x999000, FromKVM} }},
		{name: "real mode", page: map[string]uint64{"GUEST_CR0": 0x30, "CR0_READ_SHADOW": 0x60000010, "GUEST_CR3": 0, "GUEST_CR4": 0x2000, "CR4_READ_SHADOW": 0, "GUEST_RSP": 0x6efe, "VM_ENTRY_CONTROLS": 0}, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.CR0, 0x60000010)
			m.Set(fakekvm.CR3, 0)
			m.Set(fakekvm.CR4, 0)
			m.Set(fakekvm.EFER, 0)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.EFER == Register{0, FromKVM} && r.CR0.Value == 0x60000010 }},
		{name: "real mode as virtual-8086 mode, with EPT: CR3 is KVM's to know", page: map[string]uint64{"GUEST_CR0": 0x80000031, "CR0_READ_SHADOW": 0x60000010, "GUEST_CR3": 0xfffbc000, "GUEST_CR4": 0x2011,
			"CR4_READ_SHADOW": 0, "GUEST_RSP": 0x6efe, "VM_ENTRY_CONTROLS": 0, "GUEST_RFLAGS": 0x23202, "GUEST_TR_BASE": 0xfffbd000, "GUEST_TR_SELECTOR": 0x40}, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.RSP, 0x6efe)
			m.Set(fakekvm.CR0, 0x60000010)
			m.Set(fakekvm.CR3, 0x1000)
			m.Set(fakekvm.CR4, 0)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.CR3 == Register{0x1000, FromKVM} && r.RFLAGS == Register{0x202, FromVMCS} && !r.Seg[TR].Base.Known() && r.Seg[TR].Selector.Known()
		}},
		{name: "protected mode without paging, on tables of KVM's, and no registers", page: map[string]uint64{"GUEST_CR0": 0x80000031, "CR0_READ_SHADOW": 0x11, "GUEST_CR3": 0xfffbc000,
			"GUEST_RFLAGS": 0x202}, make: func(m *fakekvm.Memory) { m.Put(fakekvm.Array, 1) }, check: func(r *Registers) bool {
			return !r.CR3.Known() && r.RFLAGS == Register{0x202, FromVMCS}
		}},
		{name: "IA32_EFER of another mode", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.EFER, 0x901)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return !r.EFER.Known() }},
		{name: "KERNEL_GS_BASE, saved", make: func(m *fakekvm.Memory) { m.KernelGSBase(0) }, held: both, first: 0x100,
			check: func(r *Registers) bool { return r.KernelGSBase == Register{0xffff8bf606800000, FromKVM} }},
		{name: "nothing", make: func(m *fakekvm.Memory) { m.Put(fakekvm.Array, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := fakekvm.New()
			tt.make(m)
			vs := []*vmcs.VMCS{fakekvm.VMCS(fakekvm.VMCSAddr, tt.page), m.Witness()}
			all, err := findRegisters(context.Background(), infer.Search{Mem: m}, vs)
			if err != nil {
				t.Fatal(err)
			}
			r := all[0]
			if r.Evidence.Held != tt.held || (tt.held != 0) != r.GPR[RAX].Known() || r.GPR[RAX].Value != tt.first {
				t.Fatalf("held: %v, rax %#x (%v); want %v, %#x", r.Evidence.Held, r.GPR[RAX].Value, r.GPR[RAX].Origin, tt.held, tt.first)
			}
			if tt.held == 0 && (r.CR2.Known() || r.KernelGSBase.Known() || r.EFER.Known() || !r.GPR[RSP].Known()) {
				t.Errorf("made up: %+v", r)
			}
			if tt.check != nil && !tt.check(r) {
				t.Errorf("%+v", r)
			}
		})
	}
}
