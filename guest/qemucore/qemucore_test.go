package qemucore

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

const hswDefault = "vmx/hsw-default"

// openHost returns a host with four machines and their registers.
func openHost(t testing.TB) *guest.Host {
	t.Helper()
	image := testcores.Image(t, hswDefault+"/mini")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../../testdata/cores/" + hswDefault + "/vmcsinfo.note")
	if err != nil {
		t.Fatal(err)
	}
	note, err := elfnote.FromBlob(b, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := vmcs.ParseNote(note.Desc)
	if err != nil {
		t.Fatal(err)
	}
	h := guest.OpenHost(core)
	h.SetLayout(layout, note.Desc)
	if err := h.FindMachines(context.Background(), guest.MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if len(h.Machines) != 4 {
		t.Fatalf("%d machines", len(h.Machines))
	}
	return h
}

func openFile(t testing.TB, path string) vmcore.Core {
	t.Helper()
	f, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// processCore makes the core that gcore would have written of the process that
// runs a machine, out of the host's dump: its memory, and the threads of its
// vCPUs besides another one. leave says what to leave out.
func processCore(t testing.TB, host physmem.Reader, m *guest.Machine, leave func(hva uint64) bool) vmcore.Core {
	t.Helper()
	var notes []byte
	pid := uint32(1000)
	for _, fs := range append(fsBases(t, m), 0x7fffdead0000) {
		r := &guest.Registers{}
		r.Seg[guest.FS].Base.Value = fs
		notes = append(notes, guest.PRStatus(pid, r).Encode(binary.LittleEndian)...)
		pid++
	}
	process, _ := m.AddressSpace()
	var loads []elf.Prog64
	var memory []byte
	for page, err := range process.Mappings() {
		if err != nil || leave != nil && leave(page.Addr) {
			continue
		}
		b := make([]byte, page.Size)
		n, _ := host.ReadPhys(b, page.Phys)
		loads = append(loads, elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: page.Addr, Off: uint64(len(memory)), Filesz: uint64(n), Memsz: page.Size, Align: 1})
		memory = append(memory, b[:n]...)
	}
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(loads) + 1)}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	off := uint64(64 + 56*(len(loads)+1))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: off, Filesz: uint64(len(notes))}}
	for _, p := range loads {
		p.Off += off + uint64(len(notes))
		progs = append(progs, p)
	}
	var b bytes.Buffer
	for _, v := range []any{head, progs, notes, memory} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	c, err := vmcore.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fsBases(t testing.TB, m *guest.Machine) (bases []uint64) {
	t.Helper()
	for _, c := range m.VCPUs {
		fs, ok := c.Field("HOST_FS_BASE")
		if !ok || fs == 0 {
			t.Fatal("no HOST_FS_BASE")
		}
		if !slices.Contains(bases, fs) {
			bases = append(bases, fs)
		}
	}
	return bases
}

// A machine's core is the same out of the process's core as out of the host's
// dump.
func TestExtractProcess(t *testing.T) {
	h := openHost(t)
	for i, m := range h.Machines {
		mem, err := m.Memory()
		if err != nil {
			t.Fatal(err)
		}
		var regs []*guest.Registers
		var cpus []*CPU
		for _, v := range m.VCPUs {
			regs = append(regs, v.Regs)
			cpus = append(cpus, &CPU{VMCS: &v.VMCS, Regs: v.Regs, Slots: mem.Slots()})
		}
		want := filepath.Join(t.TempDir(), "host")
		if _, err := (guest.Extraction{Mem: mem, VCPUs: regs}).Write(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		// The notes alone say where the memory is.
		pc := processCore(t, h.Core, m, nil)
		sp, err := AddNotes(pc.Notes(), ProcessNotes(elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("x")}, cpus))
		if err != nil {
			t.Fatal(err)
		}
		seg := spliced(t, pc.Notes(), sp)
		read, err := CPUs(seg, h.Layout)
		if err != nil || len(read) != len(cpus) {
			t.Fatal(len(read), err)
		}
		virt, _ := vmcore.ProcessMemory(pc)
		pm := NewGuestMemory(virt, read[0].Slots)
		regs = nil
		for _, c := range read {
			regs = append(regs, c.Regs)
		}
		got := filepath.Join(t.TempDir(), "process")
		s, err := guest.Extraction{Mem: pm, VCPUs: regs}.Write(context.Background(), got)
		if err != nil {
			t.Fatal(err)
		}
		a, b := openFile(t, want), openFile(t, got)
		for j := range a.Notes().Notes {
			x, err1 := a.Notes().Note(j, 4096)
			y, err2 := b.Notes().Note(j, 4096)
			if err1 != nil || err2 != nil || !x.Equal(y) {
				t.Errorf("machine %d, note %d: %v, %v", i, j, err1, err2)
			}
		}
		pages := 0
		var x, y [x86.PageSize]byte
		for r := range b.Ranges() {
			for at := r.Addr; at < r.Addr+r.Size; at += x86.PageSize {
				pages++
				if _, err := a.ReadPhys(x[:], at); err != nil {
					t.Errorf("machine %d: %v", i, err)
				}
				if _, err := b.ReadPhys(y[:], at); err != nil || x != y {
					t.Fatalf("machine %d, page %#x: %v", i, at, err)
				}
			}
		}
		if uint64(pages)*x86.PageSize != s.Bytes || pages < 5 {
			t.Errorf("machine %d: %d pages, %d bytes", i, pages, s.Bytes)
		}
	}
}
