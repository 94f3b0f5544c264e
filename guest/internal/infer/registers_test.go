package infer

import (
	"context"
	"slices"
	"testing"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/vmcs"
)

// held names the searches that led to the registers.
func (f *Found) held() string {
	switch {
	case f.ByPointer && f.ByWords:
		return "both"
	case f.ByPointer:
		return "pointer"
	case f.ByWords:
		return "words"
	}
	return ""
}

// search returns what is found in m, of which nothing is made up: it is in m,
// or it is zero.
func search(t testing.TB, m *fakekvm.Memory, bases []uint64, vs []*vmcs.VMCS) []Found {
	t.Helper()
	all, err := Search{Mem: m, DirectMaps: bases}.Registers(context.Background(), vs)
	if err != nil || len(all) != len(vs) {
		t.Fatal(len(all), err)
	}
	for _, f := range all {
		if !f.Known() && (f.Copies != Copies{} || f.Array != 0 || f.DirectMap != 0) {
			t.Errorf("made up: %+v", f)
		}
		for i, r := range f.Copies.GPR {
			if f.Known() && r != m.Word(f.Array+8*uint64(i)) {
				t.Errorf("register %d: %#x is not in memory: %+v", i, r, f)
			}
		}
	}
	return all
}

// TestRegisters: the registers of a vCPU are found, or else are unknown.
func TestRegisters(t *testing.T) {
	for _, tt := range []struct {
		name  string
		page  map[string]uint64
		lacks vmcs.Encoding // a field that the layout does not have
		bases []uint64
		alone bool // no other vCPU says how far below the pointer registers lie
		make  func(m *fakekvm.Memory)
		held  string
		first uint64 // RAX
		check func(f *Found) bool
	}{
		{name: "both searches", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Point(0x1d234038, false)
		}, held: "both", first: 0x100, check: func(f *Found) bool {
			c := f.Copies
			return f.Array == fakekvm.Array && f.Pointers == 2 && f.Words == 1 && f.DirectMap == fakekvm.Direct &&
				c.GPR[15] == 0x10f && c.RIP == 0x110 && c.CR2 == 0x111 && c.CR3 == 0x57f6002 && c.EFER == 0xd01 && c.Avail>>fakekvm.RSP&1 == 0
		}},
		{name: "direct map moved by KASLR, 5 levels", make: func(m *fakekvm.Memory) {
			m.Base = 0xff11_3c40_0000_0000
			m.Live()
		}, held: "both", first: 0x100, check: func(f *Found) bool { return f.DirectMap == 0xff11_3c40_0000_0000 }},
		{name: "CR0.TS, which is the guest's own", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.CR0, 0x8005003b)
		}, held: "both", first: 0x100, check: func(f *Found) bool { return f.Words == 1 }},
		{name: "the pointer's page is missing", make: func(m *fakekvm.Memory) { m.Exact(fakekvm.Array, 0x100) }, held: "words", first: 0x100},
		{name: "words alone, with CR3 but not RSP, as a neighbour may have", make: func(m *fakekvm.Memory) { m.Registers(fakekvm.Array, 0x100, 0) }},
		{name: "the words' page is not searched", make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Point(fakekvm.Pointer, true)
			m.Only = []uint64{fakekvm.Pointer &^ 0xfff}
		}, held: "pointer", first: 0x100},
		{name: "words alone, with a CR3 that is 0", page: map[string]uint64{"GUEST_CR3": 0}, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Set(fakekvm.CR3, 0)
		}},
		{name: "words alone, twice", make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Exact(0x700028, 0x200)
		}},
		{name: "twice, the pointer is above one", make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array, 0x100, 0)
			m.Registers(0x700028, 0x200, 0)
			m.Point(fakekvm.Pointer, true)
		}, held: "both", first: 0x100, check: func(f *Found) bool { return f.Words == 2 }},
		{name: "a freed structure, nothing pointing back", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Registers(0x700028, 0x200, 0)
			m.Point(0x700028+fakekvm.Distance, false)
		}, held: "both", first: 0x100},
		{name: "two structures with all signs of life", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Registers(0x700028, 0x200, 0)
			m.Point(0x700028+fakekvm.Distance, true)
		}},
		{name: "two arrays below the pointer", make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array, 0x100, 0)
			m.Registers(fakekvm.Array-0x800, 0x200, 0)
			m.Point(fakekvm.Pointer, true)
		}, held: "both", first: 0x100},
		{name: "a pointer to another's VMCS lies between", make: func(m *fakekvm.Memory) {
			m.Live()
			m.PointTo(fakekvm.VMCSAddr+0x1000, fakekvm.Pointer-0x800, false)
		}},
		{name: "another CR4", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.CR4, 0x170ef8)
		}},
		{name: "neither CR3 nor RSP", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.CR3, 0x999000)
		}},
		{name: "regs_avail says that registers are missing", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.Dirty, 0xfe7d0000)
		}},
		{name: "another RIP, which KVM has not changed", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.Dirty, 0xfe7dffef)
		}},
		{name: "another RSP, which KVM has not changed", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.Dirty, 0xfe7cffff)
		}},
		{name: "a base that the dump knows", bases: []uint64{0xffffffff80000000, 0xffff888000000000}, make: func(m *fakekvm.Memory) { m.Live() }, held: "both", first: 0x100},
		{name: "a base that the dump does not know", bases: []uint64{0xffff88c000000000}, make: func(m *fakekvm.Memory) { m.Live() }, held: "both", first: 0x100},
		{name: "two bases, of which the dump knows one", bases: []uint64{0xffff88c000000000}, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Base = 0xffff88c000000000
			m.Registers(0x700028, 0x200, 0)
			m.Point(0x700028+fakekvm.Distance, true)
		}, held: "both", first: 0x200},
		{name: "registers across pages, one of which is missing", make: func(m *fakekvm.Memory) {
			m.Registers(0x4f93f90, 0x100, 0)
			delete(m.Pages, 0x4f93)
			m.Point(fakekvm.Pointer, true)
		}},
		{name: "two words that could be IA32_EFER", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.EFER+3, 0x501)
			m.Set(fakekvm.EFER+4, 0xfee00900)
			m.Set(fakekvm.EFER+5, m.Base+0x5000)
		}, held: "both", first: 0x100, check: func(f *Found) bool { return !f.Copies.HasEFER }},
		{name: "IA32_EFER with host_debugctl after it", make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.EFER+1, 0)
			m.Set(fakekvm.EFER+2, 0xfee00900)
			m.Set(fakekvm.EFER+3, m.Base+0x5000)
		}, held: "both", first: 0x100, check: func(f *Found) bool { return f.Copies.HasEFER && f.Copies.EFER == 0xd01 }},
		{name: "KERNEL_GS_BASE, in the processor", make: func(m *fakekvm.Memory) { m.KernelGSBase(1) }, held: "both", first: 0x100,
			check: func(f *Found) bool { return !f.Copies.HasKernelGSBase }},
		{name: "KERNEL_GS_BASE, another structure", make: func(m *fakekvm.Memory) {
			m.KernelGSBase(0)
			for i := range uint64(3) {
				m.Put(fakekvm.GSBase+16+24*i, 0)
			}
		}, held: "both", first: 0x100, check: func(f *Found) bool { return !f.Copies.HasKernelGSBase }},
		{name: "alone, with its RSP", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Point(fakekvm.Pointer, true)
		}, held: "both", first: 0x100},
		{name: "alone, with its RIP", alone: true, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.RIP, fakekvm.GuestRIP)
			m.Set(fakekvm.Dirty, 0xfe7dffef)
		}, held: "both", first: 0x100},
		{name: "alone, with the RIP of the next instruction", alone: true, page: map[string]uint64{"VM_EXIT_INSTRUCTION_LEN": 1}, make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array, 0x100, 1<<fakekvm.RIP)
			m.Set(fakekvm.RIP, fakekvm.GuestRIP+1)
			m.Point(fakekvm.Pointer, true)
		}, held: "both", first: 0x100},
		{name: "alone, with a RIP that is old", alone: true, make: func(m *fakekvm.Memory) {
			m.Live()
			m.Set(fakekvm.RIP, fakekvm.GuestRIP)
		}},
		{name: "alone, with neither RSP nor RIP: a freed neighbour may be like that", alone: true, make: func(m *fakekvm.Memory) {
			m.Registers(fakekvm.Array-fakekvm.Size, 0x200, 0)
			m.Live()
			m.Set(fakekvm.CR4, 0x170ef8)
		}},
		{name: "alone, a freed neighbour with the same RSP and its loaded_vmcs", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array-fakekvm.Size, 0x200)
			m.Set(fakekvm.CR4, 0x170ef8)
			m.Point(fakekvm.Pointer, true)
			m.Put(fakekvm.Pointer-fakekvm.Size+0xa0, m.Base+fakekvm.Pointer-fakekvm.Size)
			m.Exact(0x700028, 0x300) // so that the words alone tell nothing
		}},
		{name: "the layout does not have RSP", lacks: vmcs.GuestRSP, make: func(m *fakekvm.Memory) { m.Live() }},
		{name: "the pointer is not aligned", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Point(fakekvm.Pointer+4, true)
		}, held: "words", first: 0x100},
		{name: "the pointer is as far above as it may be", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Point(fakekvm.Array+walkDown, true)
		}, held: "both", first: 0x100},
		{name: "the pointer is too far above", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Point(fakekvm.Array+walkDown+8, true)
		}, held: "words", first: 0x100},
		{name: "a pointer with which the direct map would begin below the kernel's half", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(fakekvm.Array, 0x100)
			m.Base = 0xff00_0000_0000_0000 - 1<<32
			m.Point(fakekvm.Pointer, true)
		}, held: "words", first: 0x100},
		{name: "the structure begins where memory begins", alone: true, make: func(m *fakekvm.Memory) {
			m.Exact(0, 0x100)
			m.Point(8*fakekvm.Words, true)
		}, held: "both", first: 0x100, check: func(f *Found) bool { return f.DirectMap == 0 && !f.Copies.HasKernelGSBase }},
		{name: "memory ends with CR4", make: func(m *fakekvm.Memory) {
			m.Exact(0x700000-8*fakekvm.Words, 0x100)
			delete(m.Pages, 0x700)
		}, held: "words", first: 0x100, check: func(f *Found) bool { return !f.Copies.HasEFER && f.Copies.CR2 == 0x111 }},
		{name: "memory ends before a CR4 that is 0", page: map[string]uint64{"GUEST_CR4": 0x2000, "CR4_READ_SHADOW": 0}, make: func(m *fakekvm.Memory) {
			m.Exact(0x700000-8*fakekvm.CR4, 0x100)
			m.Put(0x700000, 0)
			delete(m.Pages, 0x700)
		}},
		{name: "registers across two pages, words alone", make: func(m *fakekvm.Memory) { m.Exact(0x6fffa0, 0x100) }, held: "words", first: 0x100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := fakekvm.New()
			tt.make(m)
			v := fakekvm.VMCS(fakekvm.VMCSAddr, tt.page)
			v.Layout.Entries = slices.DeleteFunc(v.Layout.Entries, func(e vmcs.Entry) bool { return tt.lacks != 0 && e.Encoding == tt.lacks })
			vs := []*vmcs.VMCS{v}
			if !tt.alone {
				vs = append(vs, m.Witness())
			}
			f := &search(t, m, tt.bases, vs)[0]
			if f.held() != tt.held || f.Copies.GPR[0] != tt.first {
				t.Fatalf("by %q, rax %#x; want %q, %#x", f.held(), f.Copies.GPR[0], tt.held, tt.first)
			}
			if tt.check != nil && !tt.check(f) {
				t.Errorf("%+v", f)
			}
		})
	}
}
