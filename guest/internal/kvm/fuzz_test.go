package kvm

import (
	"encoding/binary"
	"maps"
	"runtime"
	"slices"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// FuzzMachines changes bytes of the pages that a host's machines are read from.
func FuzzMachines(f *testing.F) {
	image := testcores.Image(f, "linux-host/amd-6.12")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		f.Fatal(err)
	}
	i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
	note, err := core.Notes().Note(i, 1<<16)
	if err != nil {
		f.Fatal(err)
	}
	rec := &overlay{mem: core, pages: map[uint64]bool{}}
	read(f, rec, string(note.Desc))
	pages := slices.Sorted(maps.Keys(rec.pages))
	for i := range uint32(8) {
		f.Add(i*261*4096+i*211, []byte{byte(i * 37), 0xff, byte(i), 0x7f})
	}
	f.Fuzz(func(t *testing.T, at uint32, b []byte) {
		page := pages[int(at/4096)%len(pages)]
		read(t, &overlay{core, page + uint64(at%4096), b[:min(len(b), 4096)], nil}, string(note.Desc))
	})
}

// FuzzPointers has words of the pages that a host's machines are read from lead
// to where others lead: lists, trees and XArrays that run into themselves and
// into each other.
func FuzzPointers(f *testing.F) {
	image := testcores.Image(f, "linux-host/amd-6.12")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		f.Fatal(err)
	}
	i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
	note, err := core.Notes().Note(i, 1<<16)
	if err != nil {
		f.Fatal(err)
	}
	info := string(note.Desc)
	// Without kallsyms and BTF, which are read before.
	rec := &overlay{mem: core}
	k, err := linux.Open(rec, info)
	if err != nil {
		f.Fatal(err)
	}
	v, err := Open(k)
	if err != nil {
		f.Fatal(err)
	}
	rec.pages = map[uint64]bool{}
	walk(v)
	type word struct{ addr, value uint64 }
	var words []word
	page := make([]byte, 4096)
	for _, addr := range slices.Sorted(maps.Keys(rec.pages)) {
		if _, err := core.ReadPhys(page, addr); err != nil {
			f.Fatal(err)
		}
		for off := uint64(0); off < 4096; off += 8 {
			if v := binary.LittleEndian.Uint64(page[off:]); v>>47 == 1<<17-1 { // the kernel's addresses
				words = append(words, word{addr + off, v})
			}
		}
	}
	for i := range uint16(8) {
		f.Add(i*131, i*257, i*31, i*1031)
	}
	f.Fuzz(func(t *testing.T, to1, from1, to2, from2 uint16) {
		at := func(i uint16) word { return words[int(i)%len(words)] }
		var mem physmem.Reader = core
		for _, pair := range [][2]uint16{{to1, from1}, {to2, from2}} {
			mem = &overlay{mem: mem, addr: at(pair[0]).addr, b: binary.LittleEndian.AppendUint64(nil, at(pair[1]).value)}
		}
		k, err := linux.Open(mem, info)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Open(k)
		if err != nil {
			return
		}
		v.budget = 1 << 12 // as maxObjects, but in less time
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		walk(v)
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
			t.Fatalf("%d MiB allocated", n)
		}
	})
}

func read(t testing.TB, mem physmem.Reader, info string) {
	k, err := linux.Open(mem, info)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(k)
	if err != nil {
		return
	}
	walk(v)
}

// walk reads all that there is of machines.
func walk(v *KVM) {
	for m := range v.Machines() {
		m.Slots()
		for c := range m.VCPUs() {
			_ = c
		}
		if p, ok, _ := m.Process(); ok {
			p.Cgroup()
		}
	}
}

// An overlay is memory with other bytes at an address. It remembers the pages
// that were read.
type overlay struct {
	mem   physmem.Reader
	addr  uint64
	b     []byte
	pages map[uint64]bool
}

func (o *overlay) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := o.mem.ReadPhys(p, addr)
	for i, c := range o.b {
		if at := o.addr + uint64(i); at >= addr && at-addr < uint64(n) {
			p[at-addr] = c
		}
	}
	if o.pages != nil {
		for at := addr &^ 4095; at < addr+uint64(n); at += 4096 {
			o.pages[at] = true
		}
	}
	return n, err
}
