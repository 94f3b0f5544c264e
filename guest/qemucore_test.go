package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// processCore makes the core that gcore would have written of the process that
// runs a machine, out of the host's dump: its memory, and the threads of its
// vCPUs besides another one. leave says what to leave out.
func processCore(t testing.TB, host physmem.Reader, m *Machine, leave func(hva uint64) bool) vmcore.Core {
	t.Helper()
	var notes []byte
	pid := uint32(1000)
	for _, fs := range append(fsBases(t, m), 0x7fffdead0000) {
		r := &Registers{}
		r.Seg[FS].Base.Value = fs
		notes = append(notes, PRStatus(pid, r).Encode(binary.LittleEndian)...)
		pid++
	}
	cr3, _ := m.VCPUs[0].Field("HOST_CR3")
	cr4, _ := m.VCPUs[0].Field("HOST_CR4")
	var loads []elf.Prog64
	var memory []byte
	for page, err := range NewProcess(host, cr3, cr4).Mappings() {
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

func fsBases(t testing.TB, m *Machine) (bases []uint64) {
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

// kvmHost finds the machines in a dump of testdata/cores/vmx.
func kvmHost(t testing.TB, name string) (core vmcore.Core, layout *vmcs.Layout, ms []*Machine) {
	t.Helper()
	core = openCore(t, "vmx/"+name+"/mini")
	found, err := vmcs.Find(context.Background(), core, vmcs.Search{Note: noteLayout(t, "../testdata/cores/vmx/"+name)})
	if err != nil {
		t.Fatal(err)
	}
	ms = Machines(core, found.VMCSs)
	if len(ms) != 4 {
		t.Fatalf("%d machines", len(ms))
	}
	return core, found.Layout, ms
}

// filtered is a host's dump without the memory of processes.
type filtered struct {
	physmem.Reader
	user map[uint64]bool
}

func (f filtered) ReadPhys(p []byte, addr uint64) (int, error) {
	if f.user[addr/pageSize] {
		return 0, vmcore.ErrExcluded
	}
	return f.Reader.ReadPhys(p, addr)
}

func filter(host physmem.Reader, ms []*Machine) filtered {
	f := filtered{host, make(map[uint64]bool)}
	for _, m := range ms {
		cr3, _ := m.VCPUs[0].Field("HOST_CR3")
		cr4, _ := m.VCPUs[0].Field("HOST_CR4")
		for page, err := range NewProcess(host, cr3, cr4).Mappings() {
			for off := uint64(0); err == nil && off < page.Size; off += pageSize {
				f.user[(page.Phys+off)/pageSize] = true
			}
		}
	}
	return f
}

func TestMatchProcess(t *testing.T) {
	core, _, ms := kvmHost(t, "hsw-default")
	slots := make([][]Slot, len(ms))
	for i, m := range ms {
		mem, err := m.Memory()
		if err != nil {
			t.Fatal(err)
		}
		slots[i] = mem.Slots()
	}
	for i, m := range ms {
		whole := processCore(t, core, m, nil)
		cr3, _ := m.VCPUs[0].Field("HOST_CR3")
		cr4, _ := m.VCPUs[0].Field("HOST_CR4")
		proc := NewProcess(core, cr3, cr4)
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
			for j, other := range ms {
				other := *other
				other.outer = tt.host
				match := other.MatchProcess(virt, threads, slots[j])
				if got := match.Belongs(); got != (i == j) {
					t.Errorf("%s: core of machine %d, and machine %d: %v, %+v", tt.name, i, j, got, match)
				}
				if got := match.LacksGuest(); i == j && got != (tt.core != whole) {
					t.Errorf("%s: core of machine %d lacks its memory: %v, %+v", tt.name, i, got, match)
				}
			}
			if th, ok := m.VCPUs[0].ThreadOf(threads); !ok || th.PID != 1000 {
				t.Errorf("thread %+v, %v", th, ok)
			}
		}
	}
}

// A machine's core is the same out of the process's core as out of the host's
// dump.
func TestExtractProcess(t *testing.T) {
	core, layout, ms := kvmHost(t, "hsw-default")
	for i, m := range ms {
		mem, err := m.Memory()
		if err != nil {
			t.Fatal(err)
		}
		var vs []*vmcs.VMCS
		for _, c := range m.VCPUs {
			vs = append(vs, &c.VMCS)
		}
		regs, err := findRegisters(context.Background(), infer.Search{Mem: core}, vs)
		if err != nil {
			t.Fatal(err)
		}
		want := filepath.Join(t.TempDir(), "host")
		if _, err := (Extraction{Mem: mem, VCPUs: regs}).Write(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		// The notes alone say where the memory is.
		pc := processCore(t, core, m, nil)
		var cpus []*CPU
		for j, v := range vs {
			cpus = append(cpus, &CPU{VMCS: v, Regs: regs[j], Slots: mem.Slots()})
		}
		sp, err := AddNotes(pc.Notes(), ProcessNotes(elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("x")}, cpus))
		if err != nil {
			t.Fatal(err)
		}
		seg := spliced(t, pc.Notes(), sp)
		read, err := CPUs(seg, layout)
		if err != nil || len(read) != len(cpus) {
			t.Fatal(len(read), err)
		}
		virt, _ := vmcore.ProcessMemory(pc)
		pm := NewProcessMemory(virt, read[0].Slots)
		regs = nil
		for _, c := range read {
			regs = append(regs, c.Regs)
		}
		got := filepath.Join(t.TempDir(), "process")
		s, err := Extraction{Mem: pm, VCPUs: regs}.Write(context.Background(), got)
		if err != nil {
			t.Fatal(err)
		}
		a, b := openExtracted(t, want), openExtracted(t, got)
		for j := range a.Notes().Notes {
			x, err1 := a.Notes().Note(j, 4096)
			y, err2 := b.Notes().Note(j, 4096)
			if err1 != nil || err2 != nil || !x.Equal(y) {
				t.Errorf("machine %d, note %d: %v, %v", i, j, err1, err2)
			}
		}
		pages := 0
		var x, y [pageSize]byte
		for r := range b.Ranges() {
			for at := r.Addr; at < r.Addr+r.Size; at += pageSize {
				pages++
				if _, err := a.ReadPhys(x[:], at); err != nil {
					t.Errorf("machine %d: %v", i, err)
				}
				if _, err := b.ReadPhys(y[:], at); err != nil || x != y {
					t.Fatalf("machine %d, page %#x: %v", i, at, err)
				}
			}
		}
		if uint64(pages)*pageSize != s.Bytes || pages < 5 {
			t.Errorf("machine %d: %d pages, %d bytes", i, pages, s.Bytes)
		}
	}
}

// spliced returns the notes with the splice applied.
func spliced(t testing.TB, s *elfnote.Segment, sp elfnote.Splice) *elfnote.Segment {
	t.Helper()
	var b []byte
	for i := range s.Notes {
		n, err := s.Note(i, maxVMCSNote)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, n.Encode(s.Order)...)
	}
	b = slices.Replace(b, int(sp.Off), int(sp.Off+sp.Del), sp.Ins...)
	out, err := elfnote.Parse(bytes.NewReader(b), int64(len(b)), s.Order)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAddNotes(t *testing.T) {
	note := func(name, desc string) elfnote.Note { return elfnote.Note{Name: name, Desc: []byte(desc)} }
	segment := func(notes ...elfnote.Note) *elfnote.Segment {
		var b []byte
		for _, n := range notes {
			b = append(b, n.Encode(binary.LittleEndian)...)
		}
		s, err := elfnote.Parse(bytes.NewReader(b), int64(len(b)), binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	core, info, cpu, cpu2 := note("CORE", "abc"), note("VMCSINFO", "i"), note("VMCS", "1"), note("VMCS", "22")
	for _, tt := range []struct {
		name  string
		have  []elfnote.Note
		add   []elfnote.Note
		want  []elfnote.Note
		empty bool
		err   error
	}{
		{"to a process's notes", []elfnote.Note{core, core}, []elfnote.Note{info, cpu}, []elfnote.Note{core, core, info, cpu}, false, nil},
		{"to none", nil, []elfnote.Note{info, cpu}, []elfnote.Note{info, cpu}, false, nil},
		{"again", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu}, []elfnote.Note{core, info, cpu}, true, nil},
		{"others instead", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu2}, []elfnote.Note{core, info, cpu2}, false, nil},
		{"more instead", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu, cpu2}, []elfnote.Note{core, info, cpu, cpu2}, false, nil},
		{"fewer instead", []elfnote.Note{core, info, cpu, cpu2}, []elfnote.Note{info, cpu}, []elfnote.Note{core, info, cpu}, false, nil},
		{"others after", []elfnote.Note{info, cpu, core}, []elfnote.Note{info, cpu}, nil, true, ErrOtherNotes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := segment(tt.have...)
			sp, err := AddNotes(s, tt.add)
			if !errors.Is(err, tt.err) || sp.Empty() != tt.empty {
				t.Fatalf("%+v, %v", sp, err)
			}
			if err != nil {
				return
			}
			got := spliced(t, s, sp)
			if len(got.Notes) != len(tt.want) {
				t.Fatalf("%d notes, want %d", len(got.Notes), len(tt.want))
			}
			for i, want := range tt.want {
				if n, err := got.Note(i, 100); err != nil || !n.Equal(want) {
					t.Errorf("note %d: %v, %v", i, n, err)
				}
			}
		})
	}
}

// A layout comes out of its note as it went in.
func TestLayoutNote(t *testing.T) {
	layouts := append(vmcs.Builtin(), noteLayout(t, "../testdata/cores/vmx/hsw-default"), noteLayout(t, filepath.Join(linuxGuests, hostNames(t)[0])))
	for i, l := range layouts {
		got, err := vmcs.ParseNote(LayoutNote(l).Desc)
		if err != nil {
			t.Errorf("layout %d: %v", i, err)
			continue
		}
		if got.RevisionID != l.RevisionID || got.AccessRights != l.AccessRights || len(got.Warnings) > len(l.Warnings) {
			t.Errorf("layout %d: revision %#x, rights %v, warnings %q; want %#x, %v, %q", i, got.RevisionID, got.AccessRights, got.Warnings, l.RevisionID, l.AccessRights, l.Warnings)
		}
		for _, e := range l.Entries {
			if g, ok := got.Lookup(e.Name); !e.Encoding.High() && (!ok || g.Offset != e.Offset || g.Width != e.Width || g.Encoding != e.Encoding) {
				t.Errorf("layout %d: %+v, want %+v", i, g, e)
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
		th, ok := (&VCPU{TID: tid}).ThreadOf(threads)
		if ok != want || ok && th.PID != uint32(tid) {
			t.Errorf("thread %d: %+v, %v", tid, th, ok)
		}
	}
}
