package guest

import (
	"encoding/binary"
	"iter"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/internal/fakelinux"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A fakeHost is a Linux kernel with KVM for Intel, made by hand, over the
// memory of a host that has real VMCSs and real guests.
type fakeHost struct {
	*fakelinux.Kernel
	core  vmcore.Core
	notes []elfnote.Note // besides VMCOREINFO
	info  string         // VMCOREINFO, once it is finished
	list  []uint64       // the machines' struct kvm, the oldest first
	kvm   fakeKVM
	torn  bool // the kernel's own memory is not in the dump
}

// dropInfo removes lines from VMCOREINFO.
func (h *fakeHost) dropInfo(prefix string) {
	info := ""
	for line := range strings.Lines(h.info) {
		if !strings.HasPrefix(line, prefix) {
			info += line
		}
	}
	h.info = info
}

// fakeKVM is what of KVM can be left out.
type fakeKVM struct {
	noTypes, noVMX, noNested, noList bool
	typed                            bool // it has vm_type: Linux 6.8
}

// Offsets of members, in bytes.
const (
	kvmMM, kvmPID, kvmSlots, kvmVCPUs       = 16, 24, 32, 48
	kvmArch                                 = 72
	vcpuID, vcpuCPU, vcpuMode, vcpuPID      = 0, 4, 8, 16
	vcpuArch                                = 0x40
	vcpuRegs                                = vcpuArch + 0xc0
	vcpuSize                                = 0x400
	vmxLoaded, vmx01, vmx02                 = 0x418, 0x408, 0x430
	vmxCached, vmxCurrent, vmxGS, vmxInside = 0x440, 0x448, 0x450, 0x458
	vmxSize                                 = 0x460
)

func newFakeHost(core vmcore.Core) *fakeHost {
	h := &fakeHost{Kernel: fakelinux.Over(core, 64<<30), core: core}
	h.Types.Tasks()
	h.Image("modules", make([]byte, 16))
	h.Put(h.Symbols["modules"], fakelinux.LE64(h.Symbols["modules"]))
	return h
}

// kvmTypes adds KVM's structs. The registers are at the distances from each
// other that they have in Linux 6.1.
func (h *fakeHost) kvmTypes() {
	b, m := h.Types, fakelinux.M
	i16, i32, u64, u8 := b.Int("short", 2, true), b.Int("int", 4, true), b.Int("unsigned long", 8, false), b.Int("bool", 1, false)
	void := b.Ptr(0)
	list := b.Struct("list_head", 16, m("next", void, 0), m("prev", void, 8))
	b.Struct("xa_node", 40+512, m("shift", u8, 0), m("slots", b.Array(void, 64), 40))
	xarray := b.Struct("xarray", 16, m("xa_head", void, 8))
	node := b.Struct("rb_node", 24, m("rb_right", void, 8), m("rb_left", void, 16))
	if h.kvm.noTypes {
		return
	}
	upid := b.Struct("upid", 8, m("nr", i32, 0))
	pid := b.Struct("pid", 8, m("numbers", b.Array(upid, 1), 0))
	apic := b.Struct("kvm_lapic", 8, m("regs", void, 0))
	arch := b.Struct("kvm_vcpu_arch", vcpuSize-vcpuArch, m("mp_state", i32, 0), m("apic", b.Ptr(apic), 64),
		m("regs", b.Array(u64, 17), 0xc0), m("regs_avail", i32, 0x148), m("regs_dirty", i32, 0x14c), m("cr0", u64, 0x150), m("cr2", u64, 0x160),
		m("cr3", u64, 0x168), m("cr4", u64, 0x170), m("cr8", u64, 0x188), m("efer", u64, 0x1a0))
	vcpu := b.Struct("kvm_vcpu", vcpuSize, m("vcpu_id", i32, vcpuID), m("cpu", i32, vcpuCPU), m("mode", i32, vcpuMode), m("pid", b.Ptr(pid), vcpuPID),
		m("preempted", u8, 24), m("arch", arch, vcpuArch))
	ofMachine := b.Struct("kvm_arch", 8)
	if h.kvm.typed {
		ofMachine = b.Struct("kvm_arch", 8, m("vm_type", u64, 0))
	}
	b.Struct("kvm", 80, m("vm_list", list, 0), m("mm", void, kvmMM), m("userspace_pid", i32, kvmPID), m("memslots", b.Array(void, 2), kvmSlots),
		m("vcpu_array", xarray, kvmVCPUs), m("arch", ofMachine, kvmArch))
	b.Struct("kvm_memslots", 16, m("gfn_tree", void, 0), m("node_idx", i32, 8))
	b.Struct("kvm_memory_slot", 80, m("gfn_node", b.Array(node, 2), 0), m("base_gfn", u64, 48), m("npages", u64, 56), m("userspace_addr", u64, 64),
		m("flags", i32, 72), m("id", i16, 76))
	b.Struct("kvm_x86_ops", 8, m("vcpu_create", void, 0))
	if h.kvm.noVMX {
		return
	}
	if h.kvm.noNested {
		loaded := b.Struct("loaded_vmcs", 16, m("vmcs", void, 0))
		b.Struct("vcpu_vmx", vmxSize, m("vcpu", vcpu, 0), m("loaded_vmcs", b.Ptr(loaded), vmxLoaded))
		return
	}
	loaded := b.Struct("loaded_vmcs", 16, m("vmcs", void, 0), m("shadow_vmcs", void, 8))
	nested := b.Struct("nested_vmx", 32, m("vmcs02", loaded, 0), m("cached_vmcs12", void, vmxCached-vmx02), m("current_vmptr", u64, vmxCurrent-vmx02))
	b.Struct("vcpu_vmx", vmxSize, m("vcpu", vcpu, 0), m("loaded_vmcs", b.Ptr(loaded), vmxLoaded), m("vmcs01", loaded, vmx01), m("nested", nested, vmx02),
		m("msr_guest_kernel_gs_base", u64, vmxGS), m("guest_state_loaded", u8, vmxInside))
}

// A fakeVCPU is a virtual CPU to add.
type fakeVCPU struct {
	vmcs uint64 // physical address
	// array is the physical address of its registers in the host's memory; 0
	// to make it anew.
	array uint64
	efer  uint64
	tid   uint32
}

// machine adds a machine, whose process has the page tables at root. It returns
// the addresses of its struct kvm and of its vCPUs.
func (h *fakeHost) machine(name string, pid uint32, root uint64, slots []Slot, vcpus ...fakeVCPU) (kvm uint64, at []uint64) {
	task := h.Process(pid, "qemu-system-x86", "", h.Alloc(32, 0, h.Cgroup("machine.slice", `machine-qemu\x2d1\x2d`+name+".scope")))
	mm := h.word(task + 24)
	h.Put(mm, fakelinux.LE64(fakelinux.Direct+root))
	sets := [2]uint64{h.Alloc(16), h.Alloc(16)}
	kvm = h.Alloc(80, kvmMM, mm, kvmSlots, sets[0], kvmSlots+8, sets[1])
	h.Put(kvm+kvmPID, fakelinux.LE32(pid))
	for space, set := range sets {
		// A tree that is a list: each node's right child is the next slot.
		link := set
		for i, s := range slots {
			if s.Space != space {
				continue
			}
			slot := h.Alloc(80, 48, s.GPA>>12, 56, s.Size>>12, 64, s.HVA)
			h.Put(slot+72, append(fakelinux.LE32(s.Flags), byte(i), byte(i>>8)))
			h.Put(link, fakelinux.LE64(slot))
			link = slot + 8
		}
	}
	node := h.Alloc(40 + 512)
	h.Put(kvm+kvmVCPUs+8, fakelinux.LE64(node|2))
	for i, v := range vcpus {
		addr := fakelinux.Direct + v.array - vcpuRegs
		if v.array == 0 {
			addr = h.Alloc(vmxSize)
			h.Put(addr+vcpuRegs+17*8, fakelinux.LE32(0xffff&^(1<<RSP)))
			h.Put(addr+vcpuArch+0x1a0, fakelinux.LE64(v.efer))
		}
		h.Put(addr, make([]byte, vcpuRegs))
		h.Put(addr+vcpuID, append(fakelinux.LE32(uint32(i)), fakelinux.LE32(uint32(i))...))
		if v.tid != 0 {
			h.Put(addr+vcpuPID, fakelinux.LE64(h.Alloc(8, 0, uint64(v.tid))))
		}
		for off, word := range map[uint64]uint64{
			vmxLoaded: addr + vmx01, vmx01: fakelinux.Direct + v.vmcs, vmx01 + 8: 0, vmx02: 0, vmx02 + 8: 0, vmxCached: 0,
			vmxCurrent: ^uint64(0), vmxGS: 0x1234, vmxInside: 1,
		} {
			h.Put(addr+off, fakelinux.LE64(word))
		}
		if v.vmcs == 0 {
			h.Put(addr+vmx01, fakelinux.LE64(0))
		}
		h.Put(node+40+8*uint64(i), fakelinux.LE64(addr))
		at = append(at, addr)
	}
	h.list = append(h.list, kvm)
	return kvm, at
}

// word reads a word of what was put.
func (h *fakeHost) word(addr uint64) uint64 {
	var b [8]byte
	h.Kernel.ReadPhys(b[:], addr-fakelinux.Direct)
	return binary.LittleEndian.Uint64(b[:])
}

// finish makes the list of machines, the newest first, and returns the host.
func (h *fakeHost) finish() *Host {
	h.kvmTypes()
	if !h.kvm.noList {
		at := h.Image("vm_list", make([]byte, 16))
		head := at
		for i := range h.list {
			kvm := h.list[len(h.list)-1-i]
			h.Put(at, fakelinux.LE64(kvm))
			h.Put(kvm+8, fakelinux.LE64(at))
			at = kvm
		}
		h.Put(at, fakelinux.LE64(head))
		h.Put(head+8, fakelinux.LE64(at))
	}
	create := h.Image("vmx_vcpu_create", make([]byte, 16))
	h.Image("after", make([]byte, 8))
	h.Put(h.Image("kvm_x86_ops", make([]byte, 8)), fakelinux.LE64(create))
	h.info = h.Finish()
	return OpenHost(fakeCore{h.core, h})
}

// fakeCore is a dump of a fakeHost.
type fakeCore struct {
	vmcore.Core
	host *fakeHost
}

func (c fakeCore) ReadPhys(p []byte, addr uint64) (int, error) {
	if c.host.torn {
		return c.Core.ReadPhys(p, addr)
	}
	return c.host.Kernel.ReadPhys(p, addr)
}

func (c fakeCore) Notes() *elfnote.Segment {
	var all []elfnote.Note
	if c.host.info != "" {
		all = append(all, elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(c.host.info)})
	}
	return segment(append(all, c.host.notes...)...)
}

// nothing is a dump of no memory.
type nothing struct{ vmcore.Core }

func (nothing) ReadPhys([]byte, uint64) (int, error) { return 0, vmcore.ErrNoMemory }
func (nothing) Ranges() iter.Seq[physmem.Range]      { return func(func(physmem.Range) bool) {} }

// module adds a loaded module with symbols, which lie at the addresses given.
func (h *fakeHost) module(name string, symbols map[string]uint64) {
	names := []byte{0}
	var table []byte
	for symbol, at := range symbols {
		table = append(append(table, fakelinux.LE32(uint32(len(names)))...), 1, 0, 7, 0) // an object
		table = append(append(table, fakelinux.LE64(at)...), fakelinux.LE64(8)...)
		names = append(append(names, symbol...), 0)
	}
	symtab, strtab := h.Alloc(len(table)), h.Alloc(len(names))
	h.Put(symtab, table)
	h.Put(strtab, names)
	head := h.Symbols["modules"]
	m := h.Alloc(96, 0, head, 72, h.Alloc(24, 0, symtab, 8, uint64(len(symbols)), 16, strtab))
	h.Put(m+16, []byte(name))
	h.Put(head, fakelinux.LE64(m))
}
