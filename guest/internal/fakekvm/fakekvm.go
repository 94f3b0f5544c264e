// Package fakekvm makes by hand, for tests, memory of a host in which KVM keeps
// the registers of vCPUs, and the VMCSs that point to them.
package fakekvm

import (
	"iter"
	"maps"
	"slices"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// Where KVM's structure has the registers, in words from RAX on.
const (
	RSP   = 4
	RIP   = 16
	Dirty = 17 // regs_avail in the low half, regs_dirty in the high one
	CR0   = 18
	CR2   = 20
	CR3   = 21
	CR4   = 22
	EFER  = 27
	Words = 23 // up to CR4
)

// Physical addresses of the structure that [Memory] has in most tests, as in
// Linux 6.1.
const (
	VMCSAddr = 0x5_1ec6f000
	Array    = 0x4f94828
	Distance = 0x1960 // from the registers to the pointer to the VMCS
	Pointer  = Array + Distance
	Size     = 0x2380 // from one vCPU's structure to the next
	uretMSRs = 7
	// GSBase is the address of guest_uret_msrs, before the pointer.
	GSBase = Pointer - 8*(3*uretMSRs+5)
)

// Direct is where the direct map begins without KASLR.
const Direct = 0xffff888000000000

// The values that both VMCS and the arrays of Memory have.
const (
	GuestRSP = 0xffffffff82a03e98
	GuestRIP = 0xffffffff81a592ea
)

// VMCS returns the VMCS of a guest in long mode, but for the fields given.
func VMCS(addr uint64, other map[string]uint64) *vmcs.VMCS {
	fields := map[string]uint64{
		"GUEST_CR0": 0x80050033, "CR0_GUEST_HOST_MASK": ^uint64(8), "CR0_READ_SHADOW": 0x80050033,
		"GUEST_CR4": 0x1726b0, "CR4_GUEST_HOST_MASK": ^uint64(0x1000), "CR4_READ_SHADOW": 0x170ef0,
		"GUEST_CR3": 0x57f6002, "GUEST_RSP": GuestRSP, "GUEST_RIP": GuestRIP,
		"EPT_POINTER": 0x1ecae05e, "CPU_BASED_VM_EXEC_CONTROL": 1 << 31, "SECONDARY_VM_EXEC_CONTROL": 2,
		"VM_ENTRY_CONTROLS": x86.EntryIA32e,
	}
	maps.Copy(fields, other)
	r := NewRAM()
	v := &vmcs.VMCS{Addr: addr, Page: r.Page(0), Layout: &vmcs.Layout{}}
	at := 8
	for name, value := range fields {
		f, ok := vmcs.FieldByName(name)
		if !ok {
			panic(name)
		}
		v.Layout.Entries = append(v.Layout.Entries, vmcs.Entry{Name: name, Encoding: f.Encoding, Known: true, Offset: at, Width: f.Width()})
		r.Put(uint64(at), value)
		at += 8
	}
	return v
}

// A Memory is a host's memory.
type Memory struct {
	*RAM
	Base uint64   // of the direct map
	Only []uint64 // the pages that Ranges lists; all if nil
}

// New returns empty memory.
func New() *Memory { return &Memory{RAM: NewRAM(), Base: Direct} }

// Ranges implements physmem.Memory.
func (m *Memory) Ranges() iter.Seq[physmem.Range] {
	pages := m.Only
	if pages == nil {
		for p := range m.Pages {
			pages = append(pages, p*x86.PageSize)
		}
		slices.Sort(pages)
	}
	return func(yield func(physmem.Range) bool) {
		for _, p := range pages {
			if !yield(physmem.Range{Addr: p, Size: x86.PageSize}) {
				return
			}
		}
	}
}

// Registers puts registers at addr that match VMCS: RAX to R15 are numbered
// from first, and IA32_EFER and IA32_APIC_BASE follow. Those of dirty are
// available, and KVM has changed them; RSP and RIP are unavailable otherwise.
func (m *Memory) Registers(addr, first, dirty uint64) {
	for i := range uint64(16) {
		m.Put(addr+8*i, first+i)
	}
	m.Put(addr+8*RIP, first+16)
	m.Put(addr+8*Dirty, 0xfe7cffef|dirty<<32|dirty)
	m.Put(addr+8*CR0, 0x80050033)
	m.Put(addr+8*CR2, first+17)
	m.Put(addr+8*CR3, 0x57f6002)
	m.Put(addr+8*CR4, 0x170ef0)
	m.Put(addr+8*EFER, 0xd01)
	m.Put(addr+8*(EFER+1), 0xfee00900)
	m.Put(addr+8*(EFER+2), m.Base+0x5000)
}

// Exact puts registers as Registers does, with the RSP of VMCS.
func (m *Memory) Exact(addr, first uint64) {
	m.Registers(addr, first, 0)
	m.Put(addr+8*RSP, GuestRSP)
}

// Point puts a pointer to the page at VMCSAddr at addr; with self, as in
// loaded_vmcs, something after it points back at it.
func (m *Memory) Point(addr uint64, self bool) { m.PointTo(VMCSAddr, addr, self) }

// PointTo is Point for a VMCS at another address.
func (m *Memory) PointTo(vmcs, addr uint64, self bool) {
	m.Put(addr, m.Base+vmcs)
	m.Put(addr+0xa0, 0)
	if self {
		m.Put(addr+0xa0, m.Base+addr)
	}
}

// Live puts registers at Array, and the pointer of their loaded_vmcs.
func (m *Memory) Live() {
	m.Registers(Array, 0x100, 0)
	m.Point(Pointer, true)
}

// Set changes the word of the registers at Array.
func (m *Memory) Set(word, value uint64) { m.Put(Array+8*word, value) }

// Witness puts another vCPU's structure beside, and returns its VMCS: it
// confirms how far below the pointer the registers lie.
func (m *Memory) Witness() *vmcs.VMCS {
	const array = 0x8000828
	m.Registers(array, 0x900, 0)
	m.Put(array+8*CR3, 0x7777000)
	m.PointTo(VMCSAddr+0x1000, array+Distance, true)
	return VMCS(VMCSAddr+0x1000, map[string]uint64{"GUEST_CR3": 0x7777000, "GUEST_RSP": 0x7fff1234})
}

// KernelGSBase is Live, with KERNEL_GS_BASE before the pointer and
// guest_uret_msrs_loaded as given.
func (m *Memory) KernelGSBase(loaded uint64) {
	m.Live()
	at := uint64(GSBase)
	for range uretMSRs {
		m.Put(at, 1)
		m.Put(at+16, ^uint64(0))
		at += 24
	}
	m.Put(at, loaded)
	m.Put(at+16, 0xffff8bf606800000)
}
