package guest

import (
	"context"
	"iter"
	"slices"
	"testing"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// Where KVM's structure has the registers, in words from RAX on, and how many
// words there are before the pointer to the VMCS; see package infer.
const (
	kvmRIP     = 16
	kvmDirty   = 17
	kvmCR0     = 18
	kvmCR2     = 20
	kvmCR3     = 21
	kvmCR4     = 22
	kvmWords   = 23
	uretMSRs   = 7
	beforeVMCS = 3*uretMSRs + 5
)

// mostFound is how many pointers and arrays are kept for each vCPU.
const mostFound = 64

// A testKVM is memory with KVM's structure of a vCPU in it.
type testKVM struct {
	*ram
	base   uint64   // of the direct map
	ranges []uint64 // pages that are searched; all, where nil
}

// testVMCS is the VMCS of a guest in long mode, but for what page has.
func testVMCS(addr uint64, page map[string]uint64) *vmcs.VMCS {
	fields := map[string]uint64{
		"GUEST_CR0": 0x80050033, "CR0_GUEST_HOST_MASK": ^uint64(8), "CR0_READ_SHADOW": 0x80050033,
		"GUEST_CR4": 0x1726b0, "CR4_GUEST_HOST_MASK": ^uint64(0x1000), "CR4_READ_SHADOW": 0x170ef0,
		"GUEST_CR3": 0x57f6002, "GUEST_RSP": 0xffffffff82a03e98, "GUEST_RIP": 0xffffffff81a592ea,
		"EPT_POINTER": 0x1ecae05e, "CPU_BASED_VM_EXEC_CONTROL": 1 << 31, "SECONDARY_VM_EXEC_CONTROL": 2,
		"VM_ENTRY_CONTROLS": x86.EntryIA32e,
	}
	for name, v := range page {
		fields[name] = v
	}
	v := &vmcs.VMCS{Addr: addr, Page: make([]byte, vmcs.PageSize), Layout: &vmcs.Layout{}}
	r := ram{pages: map[uint64][]byte{0: v.Page}}
	at := 8
	for name, value := range fields {
		f, ok := vmcs.FieldByName(name)
		if !ok {
			panic(name)
		}
		v.Layout.Entries = append(v.Layout.Entries, vmcs.Entry{Name: name, Encoding: f.Encoding, Known: true, Offset: at, Width: f.Width()})
		r.put(uint64(at), value)
		at += 8
	}
	return v
}

// array puts registers at addr that match testVMCS, with RAX to R15 numbered
// from first, avail and dirty; and IA32_EFER and IA32_APIC_BASE after them.
func (k *testKVM) array(addr, first, dirty uint64) {
	for i := range uint64(16) {
		k.put(addr+8*i, first+i)
	}
	k.put(addr+8*kvmRIP, first+16)
	k.put(addr+8*kvmDirty, 0xfe7cffef|dirty<<32|dirty)
	k.put(addr+8*kvmCR0, 0x80050033)
	k.put(addr+8*kvmCR2, first+17)
	k.put(addr+8*kvmCR3, 0x57f6002)
	k.put(addr+8*kvmCR4, 0x170ef0)
	k.put(addr+8*27, 0xd01)
	k.put(addr+8*28, 0xfee00900)
	k.put(addr+8*29, k.base+0x5000)
}

// exact is array, with the guest's RSP.
func (k *testKVM) exact(addr, first uint64) {
	k.array(addr, first, 0)
	k.put(addr+8*RSP, 0xffffffff82a03e98)
}

// witness puts another vCPU's structure beside, and gives its VMCS.
func (k *testKVM) witness() *vmcs.VMCS {
	const array, pointer = 0x8000828, 0x8000828 + testPointer - testArray
	k.array(array, 0x900, 0)
	k.put(array+8*kvmCR3, 0x7777000)
	k.put(pointer, k.base+testAddr+0x1000)
	k.put(pointer+0xa0, k.base+pointer)
	return testVMCS(testAddr+0x1000, map[string]uint64{"GUEST_CR3": 0x7777000, "GUEST_RSP": 0x7fff1234})
}

const (
	testAddr    = 0x5_1ec6f000 // of the VMCS
	testArray   = 0x4f94828
	testPointer = testArray + 0x1960
)

// pointer puts the pointer to the VMCS at addr; with self, as in loaded_vmcs.
func (k *testKVM) pointer(addr uint64, self bool) {
	k.put(addr, k.base+testAddr)
	k.put(addr+0xa0, 0)
	if self {
		k.put(addr+0xa0, k.base+addr)
	}
}

func TestRegSearch(t *testing.T) {
	const both = ByPointer | ByWords
	for _, tt := range []struct {
		name  string
		page  map[string]uint64
		bases []uint64
		alone bool // no other vCPU says how far below the pointer registers lie
		make  func(k *testKVM)
		held  Method
		first uint64 // RAX
		check func(r *Registers) bool
	}{
		{name: "both searches", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.pointer(0x1d234038, false)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.RIP == Register{0xffffffff81a592ea, FromVMCS} && r.GPR[RSP] == Register{0xffffffff82a03e98, FromVMCS} &&
				r.CR2 == Register{0x111, FromKVM} && r.CR3 == Register{0x57f6002, FromVMCS} && r.EFER == Register{0xd01, FromKVM} &&
				r.GPR[R15] == Register{0x10f, FromKVM} && r.Evidence.Pointers == 2 && r.Evidence.Words == 1 && r.Evidence.DirectMap == 0xffff888000000000
		}},
		{name: "direct map moved by KASLR, 5 levels", make: func(k *testKVM) {
			k.base = 0xff11_3c40_0000_0000
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.Evidence.DirectMap == 0xff11_3c40_0000_0000 }},
		{name: "RIP and RSP that KVM has changed", make: func(k *testKVM) {
			k.array(testArray, 0x100, 1<<kvmRIP|1<<RSP)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.RIP == Register{0x110, FromKVMDirty} && r.GPR[RSP] == Register{0x104, FromKVMDirty}
		}},
		{name: "CR3 that KVM has changed", make: func(k *testKVM) {
			k.array(testArray, 0x100, 1<<19)
			k.put(testArray+8*RSP, 0xffffffff82a03e98)
			k.put(testArray+8*kvmCR3, 0x1234000)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.CR3 == Register{0x1234000, FromKVMDirty} }},
		{name: "CR0.TS, which is the guest's own", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmCR0, 0x8005003b)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.CR0 == Register{0x80050033, FromVMCS} }},
		{name: "no EPT: CR3 is KVM's to know", page: map[string]uint64{"CPU_BASED_VM_EXEC_CONTROL": 0}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*RSP, 0xffffffff82a03e98)
			k.put(testArray+8*kvmCR3, 0x999000)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.CR3 == Register{0x999000, FromKVM} }},
		{name: "real mode", page: map[string]uint64{"GUEST_CR0": 0x30, "CR0_READ_SHADOW": 0x60000010, "GUEST_CR3": 0, "GUEST_CR4": 0x2000, "CR4_READ_SHADOW": 0, "GUEST_RSP": 0x6efe, "VM_ENTRY_CONTROLS": 0}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmCR0, 0x60000010)
			k.put(testArray+8*kvmCR3, 0)
			k.put(testArray+8*kvmCR4, 0)
			k.put(testArray+8*27, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.EFER == Register{0, FromKVM} && r.CR0.Value == 0x60000010 }},
		{name: "real mode as virtual-8086 mode, with EPT: CR3 is KVM's to know", page: map[string]uint64{"GUEST_CR0": 0x80000031, "CR0_READ_SHADOW": 0x60000010, "GUEST_CR3": 0xfffbc000, "GUEST_CR4": 0x2011,
			"CR4_READ_SHADOW": 0, "GUEST_RSP": 0x6efe, "VM_ENTRY_CONTROLS": 0, "GUEST_RFLAGS": 0x23202, "GUEST_TR_BASE": 0xfffbd000, "GUEST_TR_SELECTOR": 0x40}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*RSP, 0x6efe)
			k.put(testArray+8*kvmCR0, 0x60000010)
			k.put(testArray+8*kvmCR3, 0x1000)
			k.put(testArray+8*kvmCR4, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool {
			return r.CR3 == Register{0x1000, FromKVM} && r.RFLAGS == Register{0x202, FromVMCS} && !r.Seg[TR].Base.Known() && r.Seg[TR].Selector.Known()
		}},
		{name: "protected mode without paging, on tables of KVM's, and no registers", page: map[string]uint64{"GUEST_CR0": 0x80000031, "CR0_READ_SHADOW": 0x11, "GUEST_CR3": 0xfffbc000,
			"GUEST_RFLAGS": 0x202}, make: func(k *testKVM) { k.put(testArray, 1) }, check: func(r *Registers) bool {
			return !r.CR3.Known() && r.RFLAGS == Register{0x202, FromVMCS}
		}},
		{name: "the pointer's page is missing", make: func(k *testKVM) { k.exact(testArray, 0x100) }, held: ByWords, first: 0x100},
		{name: "words alone, with CR3 but not RSP, as a neighbour may have", make: func(k *testKVM) { k.array(testArray, 0x100, 0) }},
		{name: "the words' page is not searched", make: func(k *testKVM) {
			k.exact(testArray, 0x100)
			k.pointer(testPointer, true)
			k.ranges = []uint64{testPointer &^ 0xfff}
		}, held: ByPointer, first: 0x100},
		{name: "words alone, with a CR3 that is 0", page: map[string]uint64{"GUEST_CR3": 0}, make: func(k *testKVM) {
			k.exact(testArray, 0x100)
			k.put(testArray+8*kvmCR3, 0)
		}},
		{name: "words alone, twice", make: func(k *testKVM) {
			k.exact(testArray, 0x100)
			k.exact(0x700028, 0x200)
		}},
		{name: "twice, the pointer is above one", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.array(0x700028, 0x200, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.Evidence.Words == 2 }},
		{name: "a freed structure, nothing pointing back", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.array(0x700028, 0x200, 0)
			k.pointer(0x700028+0x1960, false)
		}, held: both, first: 0x100},
		{name: "two structures with all signs of life", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.array(0x700028, 0x200, 0)
			k.pointer(0x700028+0x1960, true)
		}},
		{name: "two arrays below the pointer", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.array(testArray-0x800, 0x200, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "another CR4", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmCR4, 0x170ef8)
			k.pointer(testPointer, true)
		}},
		{name: "neither CR3 nor RSP", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmCR3, 0x999000)
			k.pointer(testPointer, true)
		}},
		{name: "regs_avail says that registers are missing", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmDirty, 0xfe7d0000)
			k.pointer(testPointer, true)
		}},
		{name: "another RIP, which KVM has not changed", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmDirty, 0xfe7dffef)
			k.pointer(testPointer, true)
		}},
		{name: "another RSP, which KVM has not changed", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmDirty, 0xfe7cffff)
			k.pointer(testPointer, true)
		}},
		{name: "a base that the dump knows", bases: []uint64{0xffffffff80000000, 0xffff888000000000}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "a base that the dump does not know", bases: []uint64{0xffff88c000000000}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "two bases, of which the dump knows one", bases: []uint64{0xffff88c000000000}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.base = 0xffff88c000000000
			k.array(0x700028, 0x200, 0)
			k.pointer(0x700028+0x1960, true)
		}, held: both, first: 0x200},
		{name: "registers across pages, one of which is missing", make: func(k *testKVM) {
			k.array(0x4f93f90, 0x100, 0)
			delete(k.pages, 0x4f93)
			k.pointer(testPointer, true)
		}},
		{name: "two words that could be IA32_EFER", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.put(testArray+8*30, 0x501)
			k.put(testArray+8*31, 0xfee00900)
			k.put(testArray+8*32, k.base+0x5000)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return !r.EFER.Known() }},
		{name: "IA32_EFER of another mode", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.put(testArray+8*27, 0x901)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return !r.EFER.Known() }},
		{name: "IA32_EFER with host_debugctl after it", make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.pointer(testPointer, true)
			k.put(testArray+8*28, 0)
			k.put(testArray+8*29, 0xfee00900)
			k.put(testArray+8*30, k.base+0x5000)
		}, held: both, first: 0x100, check: func(r *Registers) bool { return r.EFER == Register{0xd01, FromKVM} }},
		{name: "KERNEL_GS_BASE, saved", make: func(k *testKVM) { k.gsBase(0) }, held: both, first: 0x100,
			check: func(r *Registers) bool { return r.KernelGSBase == Register{0xffff8bf606800000, FromKVM} }},
		{name: "KERNEL_GS_BASE, in the processor", make: func(k *testKVM) { k.gsBase(1) }, held: both, first: 0x100,
			check: func(r *Registers) bool { return !r.KernelGSBase.Known() }},
		{name: "KERNEL_GS_BASE, another structure", make: func(k *testKVM) {
			k.gsBase(0)
			for i := range uint64(3) {
				k.put(testPointer-8*(beforeVMCS-2-3*i), 0)
			}
		}, held: both, first: 0x100, check: func(r *Registers) bool { return !r.KernelGSBase.Known() }},
		{name: "nothing", make: func(k *testKVM) { k.put(testArray, 1) }},
		{name: "alone, with its RSP", alone: true, make: func(k *testKVM) {
			k.exact(testArray, 0x100)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "alone, with its RIP", alone: true, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmRIP, 0xffffffff81a592ea)
			k.put(testArray+8*kvmDirty, 0xfe7dffef)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "alone, with the RIP of the next instruction", alone: true, page: map[string]uint64{"VM_EXIT_INSTRUCTION_LEN": 1}, make: func(k *testKVM) {
			k.array(testArray, 0x100, 1<<kvmRIP)
			k.put(testArray+8*kvmRIP, 0xffffffff81a592eb)
			k.pointer(testPointer, true)
		}, held: both, first: 0x100},
		{name: "alone, with a RIP that is old", alone: true, make: func(k *testKVM) {
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmRIP, 0xffffffff81a592ea)
			k.pointer(testPointer, true)
		}},
		{name: "alone, with neither RSP nor RIP: a freed neighbour may be like that", alone: true, make: func(k *testKVM) {
			k.array(testArray-0x2380, 0x200, 0)
			k.array(testArray, 0x100, 0)
			k.put(testArray+8*kvmCR4, 0x170ef8)
			k.pointer(testPointer, true)
		}},
		{name: "alone, a freed neighbour with the same RSP and its loaded_vmcs", alone: true, make: func(k *testKVM) {
			k.exact(testArray-0x2380, 0x200)
			k.put(testArray+8*kvmCR4, 0x170ef8)
			k.pointer(testPointer, true)
			k.put(testPointer-0x2380+0xa0, k.base+testPointer-0x2380)
			k.exact(0x700028, 0x300) // so that the words alone tell nothing
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &testKVM{ram: newRAM(), base: 0xffff888000000000}
			tt.make(k)
			vs := []*vmcs.VMCS{testVMCS(testAddr, tt.page)}
			if !tt.alone {
				vs = append(vs, k.witness())
			}
			all, err := findRegisters(context.Background(), infer.Search{Mem: k, DirectMaps: tt.bases}, vs)
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

// gsBase has KERNEL_GS_BASE before the pointer, with guest_uret_msrs_loaded.
func (k *testKVM) gsBase(loaded uint64) {
	k.array(testArray, 0x100, 0)
	k.pointer(testPointer, true)
	at := uint64(testPointer - 8*beforeVMCS)
	for range uretMSRs {
		k.put(at, 1)
		k.put(at+16, ^uint64(0))
		at += 24
	}
	k.put(at, loaded)
	k.put(at+16, 0xffff8bf606800000)
}

func (k *testKVM) Ranges() iter.Seq[physmem.Range] {
	pages := k.ranges
	if pages == nil {
		for p := range k.pages {
			pages = append(pages, p*pageSize)
		}
		slices.Sort(pages)
	}
	return func(yield func(physmem.Range) bool) {
		for _, p := range pages {
			if !yield(physmem.Range{Addr: p, Size: pageSize}) {
				return
			}
		}
	}
}

// vCPUs of one guest have the same CR0, CR3 and CR4, and often lie side by
// side.
func TestRegSearchNeighbours(t *testing.T) {
	const size, distance = 0x2380, 0x1960 // of the structure, in Linux 6.1
	for _, tt := range []struct {
		name string
		lack []int // vCPUs whose array does not fit, or is missing
		cut  []int // vCPUs without a pointer
		cpus int
		want []uint64
	}{
		{"all there", nil, nil, 4, []uint64{0x100, 0x200, 0x300, 0x400}},
		{"the registers of one are missing", []int{2}, nil, 4, []uint64{0x100, 0x200, 0, 0x400}},
		{"of the first", []int{0}, nil, 4, []uint64{0, 0x200, 0x300, 0x400}},
		{"the pointer of one is missing: what is left is its", nil, []int{1}, 4, []uint64{0x100, 0x200, 0x300, 0x400}},
		{"registers of one, pointer of the next", []int{2}, []int{1}, 4, []uint64{0x100, 0, 0, 0x400}},
		{"two, of which only one has registers", []int{1}, nil, 2, []uint64{0x100, 0}},
		{"two, of which only one has registers, and no pointers", []int{1}, []int{0, 1}, 2, []uint64{0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &testKVM{ram: newRAM(), base: 0xffff888000000000}
			var vs []*vmcs.VMCS
			for i := range tt.cpus {
				at := testArray + uint64(i)*size
				if !slices.Contains(tt.lack, i) {
					k.exact(at, 0x100*uint64(i+1))
				}
				if !slices.Contains(tt.cut, i) {
					k.put(at+distance, k.base+testAddr+uint64(i)<<12)
					k.put(at+distance+0xa0, k.base+at+distance)
				}
				vs = append(vs, testVMCS(testAddr+uint64(i)<<12, nil))
			}
			all, err := findRegisters(context.Background(), infer.Search{Mem: k}, vs)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range all {
				if got := r.GPR[RAX].Value; got != tt.want[i] || r.GPR[RAX].Known() != (got != 0) {
					t.Errorf("vCPU %d: rax %#x, want %#x; %+v", i, got, tt.want[i], r.Evidence)
				}
			}
		})
	}
}

// A guest may have more vCPUs than arrays are kept that look like one's.
func TestRegSearchManyVCPUs(t *testing.T) {
	const size, distance = 0x2380, 0x1960
	for _, pointers := range []bool{true, false} {
		k := &testKVM{ram: newRAM(), base: 0xffff888000000000}
		var vs []*vmcs.VMCS
		for i := range uint64(3 * mostFound) {
			at, rsp := testArray+i*size, 0xffffffff82a03e98+i<<14
			k.array(at, 0x100*(i+1), 0)
			k.put(at+8*RSP, rsp)
			if pointers {
				k.put(at+distance, k.base+testAddr+i<<12)
				k.put(at+distance+0xa0, k.base+at+distance)
			}
			vs = append(vs, testVMCS(testAddr+i<<12, map[string]uint64{"GUEST_RSP": rsp}))
		}
		all, err := findRegisters(context.Background(), infer.Search{Mem: k}, vs)
		if err != nil {
			t.Fatal(err)
		}
		want := ByWords
		if pointers {
			want |= ByPointer
		}
		for i, r := range all {
			if r.GPR[RAX].Value != 0x100*uint64(i+1) || r.Evidence.Held != want {
				t.Errorf("vCPU %d: rax %#x, %+v", i, r.GPR[RAX].Value, r.Evidence)
			}
		}
	}
}

// Memory full of what looks like registers costs no more than a bound.
func TestRegSearchFull(t *testing.T) {
	k := &testKVM{ram: newRAM(), base: 0xffff888000000000}
	for i := range uint64(10 * mostFound) {
		array := 0x100000 + i*8*kvmWords
		k.array(array, array, 0)
		k.put(0x300000+8*i, k.base+testAddr)
	}
	vs := []*vmcs.VMCS{testVMCS(testAddr, nil), testVMCS(testAddr, nil), testVMCS(testAddr, nil)}
	all, err := findRegisters(context.Background(), infer.Search{Mem: k}, vs)
	if err != nil {
		t.Fatal(err)
	}
	if e := all[0].Evidence; e.Pointers != mostFound || e.Words != mostFound || e.Held != 0 || all[0].GPR[RAX].Known() {
		t.Errorf("%+v", e)
	}
}

func TestRegSearchStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k := &testKVM{ram: newRAM()}
	k.put(0, 1)
	if _, err := findRegisters(ctx, infer.Search{Mem: k}, []*vmcs.VMCS{testVMCS(testAddr, nil)}); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}
