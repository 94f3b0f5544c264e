package guest

import (
	"context"
	"encoding/binary"
	"testing"

	"vmcsnote/internal/fakelinux"
	"vmcsnote/vmcs"
)

// withCPU gives a host the struct cpuinfo_x86 of a processor.
func withCPU(h *fakeHost, p vmcs.Processor, stepping string) {
	b, m := h.Types, fakelinux.M
	u8, u32, char := b.Int("unsigned char", 1, false), b.Int("unsigned int", 4, false), b.Int("char", 1, true)
	b.Struct("cpuinfo_x86", 160, m("x86", u8, 0), m("x86_vendor", u8, 1), m("x86_model", u8, 2), m(stepping, u8, 3),
		m("x86_capability", b.Array(u32, 8), 16), m("x86_vendor_id", b.Array(char, 16), 64), m("microcode", u32, 80), m("x86_model_id", b.Array(char, 64), 96))
	data := make([]byte, 160)
	data[0], data[2], data[3] = byte(p.Family), byte(p.Model), byte(p.Stepping)
	if p.Hypervisor {
		binary.LittleEndian.PutUint32(data[16+4*4:], 1<<31)
	}
	copy(data[64:], p.Vendor)
	binary.LittleEndian.PutUint32(data[80:], uint32(p.Microcode))
	h.Image("boot_cpu_data", data)
}

// TestFiles: a layout that the caller has for a processor is used if the dump
// tells that its processor is that one, and there is no note.
func TestFiles(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	intel := vmcs.Processor{Vendor: "GenuineIntel", Family: 6, Model: 0x9e, Stepping: 13, Microcode: 0xf4}
	virtual := intel
	virtual.Hypervisor = true
	for _, tt := range []struct {
		name     string
		cpu      vmcs.Processor
		stepping string // what the member is called
	}{
		{"a processor", intel, "x86_stepping"},
		{"before Linux 4.16", intel, "x86_mask"},
		{"a virtual one", virtual, "x86_stepping"},
		{"the kernel does not tell", vmcs.Processor{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := kvmLike(t, core, inferred(t, core, layout), nil)
			if tt.stepping != "" {
				withCPU(f, tt.cpu, tt.stepping)
			}
			h := f.finish()
			got, err := ProcessorOf(h.Core)
			if got != tt.cpu || (err == nil) != (tt.stepping != "") {
				t.Errorf("processor %+v, %v, want %+v", got, err, tt.cpu)
			}
			asked := 0
			h.Files = func(p vmcs.Processor) []*vmcs.Layout {
				asked++
				if p != tt.cpu {
					t.Errorf("asked for %+v, want %+v", p, tt.cpu)
				}
				return []*vmcs.Layout{layout}
			}
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
				t.Fatal(err, h.NoKVM)
			}
			if asked != 1 || h.LayoutFrom != LayoutOfFile || h.Layout != layout || len(h.Found.VMCSs) == 0 {
				t.Errorf("asked %d times, layout from %d, %d VMCSs", asked, h.LayoutFrom, len(h.Found.VMCSs))
			}
		})
	}
}
