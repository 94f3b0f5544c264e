package qemucore

import (
	"encoding/binary"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// filtered is a host's dump without the memory of processes.
type filtered struct {
	physmem.Reader
	user map[uint64]bool
}

func (f filtered) ReadPhys(p []byte, addr uint64) (int, error) {
	if f.user[addr/x86.PageSize] {
		return 0, vmcore.ErrExcluded
	}
	return f.Reader.ReadPhys(p, addr)
}

func filter(host physmem.Reader, ms []*guest.Machine) filtered {
	f := filtered{host, make(map[uint64]bool)}
	for _, m := range ms {
		process, _ := m.AddressSpace()
		for page, err := range process.Mappings() {
			for off := uint64(0); err == nil && off < page.Size; off += x86.PageSize {
				f.user[(page.Phys+off)/x86.PageSize] = true
			}
		}
	}
	return f
}

func TestCompare(t *testing.T) {
	h := openHost(t)
	core, ms := h.Core, h.Machines
	slots := make([][]guest.Slot, len(ms))
	for i, m := range ms {
		mem, err := m.Memory()
		if err != nil {
			t.Fatal(err)
		}
		slots[i] = mem.Slots()
	}
	for i, m := range ms {
		whole := processCore(t, core, m, nil)
		proc, _ := m.AddressSpace()
		// gdb leaves out what is unchanged in its file, and the kernel shared
		// memory, by coredump_filter.
		filtered := processCore(t, core, m, func(hva uint64) bool {
			page, _ := proc.Translate(hva)
			return page.Entry&x86.Write == 0 || inSlot(slots[i], hva)
		})
		bare := processCore(t, core, m, func(hva uint64) bool { return inSlot(slots[i], hva) })
		for _, tt := range []struct {
			name string
			host physmem.Reader
			core vmcore.Core
		}{
			{"all there", core, whole},
			{"host's dump without processes", filter(core, ms), whole},
			{"QEMU's core without the guest's memory", core, bare},
			{"neither", filter(core, ms), bare},
			{"QEMU's core without files", core, filtered},
			{"neither, without files", filter(core, ms), filtered},
		} {
			virt, ok := vmcore.ProcessMemory(tt.core)
			if !ok {
				t.Fatal("no process's core")
			}
			threads := Threads(tt.core.Notes())
			for j, other := range guest.Machines(tt.host, h.Found.VMCSs) {
				match := Compare(other, virt, threads, slots[j])
				if got := match.Belongs(); got != (i == j) {
					t.Errorf("%s: core of machine %d, and machine %d: %v, %+v", tt.name, i, j, got, match)
				}
				if got := match.LacksGuest(); i == j && got != (tt.core != whole) {
					t.Errorf("%s: core of machine %d lacks its memory: %v, %+v", tt.name, i, got, match)
				}
			}
			if th, ok := ThreadOf(m.VCPUs[0], threads); !ok || th.PID != 1000 {
				t.Errorf("thread %+v, %v", th, ok)
			}
		}
	}
}

func TestBelongs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		match Match
		want  bool
	}{
		{"gdb's gcore of QEMU with a third of its pages", Match{CPUs: 2, Threads: 2, Pages: 3000, Covered: 1000, Compared: 900, Same: 880}, true},
		{"written after the crash", Match{CPUs: 2, Threads: 2, Pages: 3000, Covered: 3000, Compared: 900, Same: 300}, true},
		{"the same addresses, another process", Match{CPUs: 2, Threads: 2, Pages: 3000, Covered: 3000, Compared: 900, Same: 50}, false},
		{"nothing at its addresses", Match{CPUs: 2, Threads: 2, Pages: 3000}, false},
		{"one thread of two", Match{CPUs: 2, Threads: 1, Pages: 3000, Covered: 1000}, false},
		{"no threads, equal memory", Match{CPUs: 2, Pages: 3000, Covered: 2900, Compared: 900, Same: 880}, true},
		{"no threads, the same library", Match{CPUs: 2, Pages: 3000, Covered: 100, Compared: 90, Same: 90}, false},
		{"no threads, few pages", Match{CPUs: 2, Pages: 3000, Covered: 3000, Compared: 7, Same: 7}, false},
		{"nothing", Match{}, false},
	} {
		if got := tt.match.Belongs(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Without a VMCS the thread is the one that KVM names.
func TestThreadByID(t *testing.T) {
	threads := []Thread{{PID: 7, FSBase: 1}, {PID: 8}, {PID: 9}, {PID: 9}}
	for tid, want := range map[int]bool{0: false, 7: true, 8: true, 9: false, 10: false} {
		th, ok := ThreadOf(&guest.VCPU{TID: tid}, threads)
		if ok != want || ok && th.PID != uint32(tid) {
			t.Errorf("thread %d: %+v, %v", tid, th, ok)
		}
	}
}

// endlessTables are memory full of page tables: each entry of a table refers to
// a table, or at level 1 to a page, that no other entry refers to.
type endlessTables struct{ read int }

func (e *endlessTables) ReadPhys(p []byte, addr uint64) (int, error) {
	level, index := addr>>44, addr&(1<<44-1)>>12
	if e.read++; level > 3 {
		return 0, vmcore.ErrNoMemory
	}
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], (level+1)<<44|(index<<9|uint64(i/8))<<12|7)
	}
	return len(p), nil
}

// nothing is memory without pages.
type nothing struct{}

func (nothing) ReadPhys([]byte, uint64) (int, error) { return 0, vmcore.ErrNoMemory }

// TestCompareEndless: the process's tables are not read beyond the pages that
// are looked up.
func TestCompareEndless(t *testing.T) {
	page := make([]byte, vmcs.PageSize)
	binary.LittleEndian.PutUint64(page[8:], 0x1000)
	l := &vmcs.Layout{Entries: []vmcs.Entry{{Name: "HOST_CR3", Encoding: vmcs.HostCR3, Known: true, Offset: 8, Width: 8}}}
	host := new(endlessTables)
	m := guest.Machines(host, []*vmcs.Candidate{{VMCS: vmcs.VMCS{Page: page, Layout: l}}})[0]
	const half = matchPages * x86.PageSize
	core := physmem.With(nothing{}, func(func(physmem.Range) bool) {})
	match := Compare(m, core, nil, []guest.Slot{{HVA: 0, Size: half}})
	if match.GuestPages != matchPages || match.Pages != matchPages {
		t.Errorf("%+v, expected %d pages of each kind", match, matchPages)
	}
	if most := 2*matchPages/x86.Entries + 4; host.read > most {
		t.Errorf("%d tables read, expected %d at most", host.read, most)
	}
}
