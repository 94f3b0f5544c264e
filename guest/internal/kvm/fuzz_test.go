package kvm

import (
	"maps"
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

func read(t testing.TB, mem physmem.Reader, info string) {
	k, err := linux.Open(mem, info)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(k)
	if err != nil {
		return
	}
	for m := range v.Machines() {
		m.Slots()
		for c := range m.VCPUs() {
			_ = c
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
