package inside

import (
	"context"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// changedCore is a dump in which the guest wrote something else. It counts what
// is read.
type changedCore struct {
	vmcore.Core
	at           uint64
	b            []byte
	reads, bytes int
}

func (c *changedCore) ReadPhys(p []byte, addr uint64) (int, error) {
	c.reads++
	c.bytes += len(p)
	n, err := c.Core.ReadPhys(p, addr)
	for i, v := range c.b {
		if at := c.at + uint64(i); at >= addr && at-addr < uint64(n) {
			p[at-addr] = v
		}
	}
	return n, err
}

// FuzzLook changes memory of a real guest: whatever is in it, a look ends, and
// reads no more than it may.
func FuzzLook(f *testing.F) {
	image := testcores.Image(f, "linux-host/amd-6.1")
	c, err := vmcore.Open(image, image.Size())
	if err != nil {
		f.Fatal(err)
	}
	core := &changedCore{Core: c}
	h := guest.OpenHost(core)
	if err := h.FindMachines(context.Background(), guest.MachineSearch{}); err != nil {
		f.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		f.Fatal(err)
	}
	m := h.Machines[1]
	mem, err := m.Memory()
	if err != nil {
		f.Fatal(err)
	}
	k, err := m.Linux()
	if err != nil {
		f.Fatal(err)
	}
	names := []string{"modules", "init_task", "__per_cpu_offset", "tk_core", "init_uts_ns", "panic_cpu", "__start_BTF",
		"__start_orc_unwind_ip", "__start_orc_unwind", "init_top_pgt", "vmcoreinfo_data", "_text"}
	var places []uint64 // of the host
	for _, name := range names {
		addr, err := k.Symbol(name)
		if err != nil {
			f.Fatal(err)
		}
		gpa, _, err := k.Phys(addr)
		if err != nil {
			f.Fatal(err)
		}
		to, err := mem.Translate(gpa)
		if err != nil {
			f.Fatal(err)
		}
		places = append(places, to.Phys+gpa-to.Addr)
	}
	f.Add(byte(0), uint16(0), []byte{0, 0, 0, 0, 0x80, 0xff, 0xff, 0xff})
	f.Add(byte(6), uint16(12), []byte{0xff, 0xff, 0xff, 0x7f})
	f.Add(byte(8), uint16(4), []byte{0xff, 0xff})
	f.Add(byte(9), uint16(4088), make([]byte, 8))
	f.Fuzz(func(t *testing.T, place byte, off uint16, b []byte) {
		core.at, core.b = places[int(place)%len(places)]+uint64(off%4096), b[:min(len(b), 64)]
		core.reads, core.bytes = 0, 0
		m.Forget()
		s := Look(m, Options{Backtrace: true})
		// Package linux bounds what it reads of the guest; each read may need
		// some of the host's tables.
		if core.bytes > 256<<20 || core.reads > 1<<18 {
			t.Errorf("%d reads of %d bytes", core.reads, core.bytes)
		}
		for _, v := range s.VCPUs {
			if len(v.Backtrace) > 256 {
				t.Errorf("%d frames", len(v.Backtrace))
			}
		}
	})
}
