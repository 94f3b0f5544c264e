// Package crowd puts many machines into the memory of a KVM host, for tests and
// the benchmark. It panics if the host's memory is not as expected.
package crowd

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// A Host is the memory of a KVM host with objects added to it, where the host's
// page tables map nothing.
type Host struct {
	// Note is its VMCOREINFO.
	Note string
	// Kernel is the host's.
	Kernel *linux.Kernel
	// Reads counts the calls of ReadPhys.
	Reads int
	// VMCB is what each vCPU's VMCB holds. If it is nil, there are none.
	VMCB []byte
	// Endless, if not nil, fills a page of the added memory in which nothing was
	// set; addr counts from Base.
	Endless func(page []byte, addr uint64)
	// Base is the virtual address of the added memory.
	Base uint64

	host    physmem.Memory
	pages   map[uint64]*[pageSize]byte
	size    uint64 // of the added memory
	list    uint64 // vm_list
	structs map[string]*linux.Struct
	fields  map[[2]string]linux.Field
}

const (
	pageSize = 4096
	// table is the physical address of the page table of the added memory, phys
	// that of the memory itself: both are above all of the host's.
	table = 1 << 40
	phys  = table + 1<<32
)

// New returns a host with KVM for AMD's processors, to which nothing is added
// yet. note is its VMCOREINFO.
func New(host physmem.Memory, note string) *Host {
	h := &Host{Note: note, host: host, pages: map[uint64]*[pageSize]byte{}, structs: map[string]*linux.Struct{}, fields: map[[2]string]linux.Field{}}
	h.Kernel = must(linux.Open(h, note))
	_, line, _ := strings.Cut(note, "SYMBOL(swapper_pg_dir)=")
	var pgd uint64
	must(fmt.Sscanf(line, "%x", &pgd))
	for i := uint64(511); h.Base == 0; i-- {
		if i == 256 {
			panic("all of the address space is used")
		}
		if must(h.Kernel.Pointer(pgd+8*i)) != 0 {
			continue
		}
		h.Base = 0xffff<<48 | i<<39
		// One page table, whose entries are pages of 1 GiB.
		h.Put(pgd+8*i, 8, table|1)
		for g := range uint64(64) {
			h.physPut(table+8*g, 8, (phys+g<<30)|0x81)
		}
	}
	// Nothing of the old tables may be cached.
	h.Kernel = must(linux.Open(h, note))
	h.list = must(must(h.Kernel.Module("kvm")).Symbol("vm_list"))
	return h
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ReadPhys implements [physmem.Reader].
func (h *Host) ReadPhys(p []byte, addr uint64) (n int, err error) {
	h.Reads++
	for n < len(p) {
		at := addr + uint64(n)
		part := p[n:min(uint64(len(p)), uint64(n)+pageSize-at%pageSize)]
		if page := h.pages[at&^(pageSize-1)]; page != nil {
			copy(part, page[at%pageSize:])
		} else if at >= table {
			if clear(part); h.Endless != nil && len(part) == pageSize && at >= phys {
				h.Endless(part, at-phys)
			}
		} else if _, err := h.host.ReadPhys(part, at); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Ranges implements [physmem.Memory].
func (h *Host) Ranges() iter.Seq[physmem.Range] {
	all := slices.Collect(h.host.Ranges())
	all = append(all, physmem.Range{Addr: table, Size: pageSize}, physmem.Range{Addr: phys, Size: (h.size + pageSize - 1) &^ (pageSize - 1)})
	return slices.Values(physmem.Union(all))
}

func (h *Host) physPut(addr, size, v uint64) {
	page := h.pages[addr&^(pageSize-1)]
	if page == nil {
		page = new([pageSize]byte)
		if n, err := h.ReadPhys(page[:], addr&^(pageSize-1)); n < pageSize {
			panic(err)
		}
		h.pages[addr&^(pageSize-1)] = page
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	copy(page[addr%pageSize:], b[:size])
}

// Put puts a number of some bytes at a virtual address.
func (h *Host) Put(addr, size, v uint64) {
	at := addr - h.Base + phys
	if h.Base == 0 || addr < h.Base || addr-h.Base > h.size {
		var err error
		if at, _, err = h.Kernel.Phys(addr); err != nil {
			panic(err)
		}
	}
	h.physPut(at, size, v)
}

// An Object is a struct in the memory that is added.
type Object struct {
	Addr uint64
	Size uint64
	h    *Host
	s    *linux.Struct
}

// Object adds an object of a type of kvm_amd, the kernel or kvm.
func (h *Host) Object(name string) Object {
	s := h.structs[name]
	if s == nil {
		var err error
		if s, err = must(h.Kernel.Module("kvm_amd")).Struct(name); err != nil {
			s = must(must(h.Kernel.Module("kvm")).Struct(name))
		}
		h.structs[name] = s
	}
	return Object{h.alloc(s.Size(), 64), s.Size(), h, s}
}

// alloc returns the virtual address of size bytes that are aligned.
func (h *Host) alloc(size, align uint64) uint64 {
	at := (h.size + align - 1) &^ (align - 1)
	h.size = at + size
	return h.Base + at
}

func (o Object) field(path string) linux.Field {
	f, ok := o.h.fields[[2]string{o.s.Name, path}]
	if !ok {
		f = must(o.s.Field(path))
		o.h.fields[[2]string{o.s.Name, path}] = f
	}
	return f
}

// At returns the address of a member.
func (o Object) At(path string) uint64 { return o.Addr + o.field(path).Offset() }

// Set sets a member.
func (o Object) Set(path string, v uint64) Object {
	o.h.Put(o.At(path), min(o.field(path).Size, 8), v)
	return o
}

// ring makes a list of a head and its entries.
func (h *Host) ring(head uint64, entries ...uint64) {
	at := head
	for _, e := range append(entries, head) {
		h.Put(at, 8, e)
		h.Put(e+8, 8, at)
		at = e
	}
}

// Link makes machines the host's list of machines.
func (h *Host) Link(machines ...Object) {
	var links []uint64
	for _, m := range machines {
		links = append(links, m.At("vm_list"))
	}
	h.ring(h.list, links...)
}

// A Model is a process of the host that runs a machine: added processes get its
// cgroups and page tables.
type Model struct{ cgroups, pgd uint64 }

// Model returns the process that runs the host's newest machine.
func (h *Host) Model() (Model, error) {
	machine := must(must(h.Kernel.Module("kvm")).Struct("kvm"))
	first := must(h.Kernel.Pointer(h.list)) - must(machine.Field("vm_list")).Offset()
	mm := must(h.Kernel.Value(first, must(machine.Field("mm"))))
	pgd := must(h.Kernel.Value(mm, must(must(h.Kernel.Struct("mm_struct")).Field("pgd"))))
	t, ok, err := h.Kernel.Owner(mm)
	if err != nil || !ok {
		return Model{}, errors.Errorf("machine at %#x: no process (%v)", first, err)
	}
	return Model{must(h.Kernel.Value(t.Addr, must(must(h.Kernel.Struct("task_struct")).Field("cgroups")))), pgd}, nil
}
