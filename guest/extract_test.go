package guest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// openExtracted opens a core that Write has written.
func openExtracted(t testing.TB, path string) vmcore.Core {
	t.Helper()
	f, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// A test's own VMCOREINFO tells nothing of page tables.
	bad := slices.DeleteFunc(f.Verify(), func(f vmcore.Finding) bool { return f.Remark && strings.HasPrefix(f.Text, "VMCOREINFO has no line") })
	if len(bad) > 0 {
		t.Errorf("faults: %v", bad)
	}
	return f
}

// The Linux guests: their pages have the hashes taken of them, and the notes
// are those that crash reads.
func TestExtractLinux(t *testing.T) {
	for _, name := range hostNames(t) {
		t.Run(name, func(t *testing.T) {
			h := openHost(t, name)
			m, regs := h.machine(t)
			mem, err := m.Memory()
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "guest.core")
			s, err := Extraction{Mem: mem, VCPUs: regs}.Write(context.Background(), out)
			if err != nil {
				t.Fatal(err)
			}
			c := openExtracted(t, out)
			pages, size := 0, uint64(0)
			last := vmcore.Progs(c)[len(vmcore.Progs(c))-1]
			if info, err := c.Notes().Note(2, 4096); err != nil || !strings.Contains(string(info.Desc), fmt.Sprintf("SYMBOL(swapper_pg_dir)=%x\n", last.Vaddr)) || last.Filesz != pageSize {
				t.Errorf("the last PT_LOAD is not the kernel's page table: %+v, %v", last, err)
			}
			for i, p := range vmcore.Progs(c)[1 : len(vmcore.Progs(c))-1] {
				if p.Vaddr != 0 || p.Align != 0 || p.Filesz != p.Memsz {
					t.Errorf("PT_LOAD %d: %+v", i, p)
				}
				size += p.Filesz
			}
			for pfn, want := range h.json.Pages {
				b := make([]byte, pageSize)
				if _, err := c.ReadPhys(b, hex(t, "0x"+pfn)*pageSize); err != nil {
					t.Error(err)
				} else if got := fmt.Sprintf("%x", sha256.Sum256(b))[:16]; got != want {
					t.Errorf("page %s: %s, want %s", pfn, got, want)
				}
				pages++
			}
			if pages < 300 || size != s.Bytes || size < uint64(pages)*pageSize {
				t.Errorf("%d pages compared, %d bytes in the core, %d told", pages, size, s.Bytes)
			}
			if len(s.Lost) != 1 || s.Lost[0].Reason != vmcore.ErrNoMemory || s.Lost[0].Pages < 20000 {
				t.Errorf("lost: %v", s.Lost)
			}
			var names []string
			for _, e := range c.Notes().Notes {
				names = append(names, fmt.Sprint(e.Name, " ", e.Type, " ", min(e.DescSize, 441)))
			}
			if want := []string{"CORE 1 336", "QEMU 0 440", "VMCOREINFO 0 441"}; !slices.Equal(names, want) {
				t.Fatalf("notes %q, want %q", names, want)
			}
			info, err := c.Notes().Note(2, 4096)
			if err != nil || !strings.HasPrefix(string(info.Desc), "OSRELEASE=6.1.0-56-amd64\n") || s.Info != InfoFound || s.Release != "6.1.0-56-amd64" {
				t.Errorf("%v, %q, %v: %.40q", err, s.Release, s.Info, info.Desc)
			}
			status, err := c.Notes().Note(0, 336)
			if err != nil || binary.LittleEndian.Uint64(status.Desc[112+16*8:]) != h.truth["rip"] {
				t.Errorf("rip %x, want %#x", status.Desc[112+16*8:112+17*8], h.truth["rip"])
			}
		})
	}
}

// A testSource is a guest's memory that lacks pages for various reasons.
type testSource struct {
	*ram
	ranges [][2]uint64
	slots  []Slot
	fail   map[uint64]error // by page number
}

func (s testSource) Slots() []Slot { return s.slots }

func (s testSource) Ranges() iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		for _, r := range s.ranges {
			if !yield(physmem.Range{Addr: r[0], Size: r[1]}) {
				return
			}
		}
	}
}

func (s testSource) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		if err := s.fail[at/pageSize]; err != nil {
			return n, errors.Wrapf(err, "%#x", at)
		}
		page := make([]byte, pageSize)
		copy(page, s.Pages[at/pageSize]) // zeros, where nobody has put anything
		n += copy(p[n:], page[at%pageSize:])
	}
	return n, nil
}

func TestExtractSummary(t *testing.T) {
	odd := errors.New("the disk is on fire")
	src := testSource{
		ram:    newRAM(),
		ranges: [][2]uint64{{0x1000, 0x9000}, {0x100000, 0x10000}},
		slots:  []Slot{{GPA: 0, Size: 0xa0000}, {GPA: 0x100000, Size: 0x100000}},
		fail:   map[uint64]error{2: ErrSwapped, 3: vmcore.ErrExcluded, 4: ErrSwapped, 0x101: odd, 0x103: errors.New("and the roof")},
	}
	known := func(id uint64) *Registers { return &Registers{APICID: Register{id, FromAPIC}} }
	a, b := known(1), known(0)
	b.GPR[RAX].Origin = FromKVM
	s, err := Extraction{Mem: src, VCPUs: []*Registers{a, b}}.Write(context.Background(), filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	if s.VCPUs[0] != b || s.VCPUs[1] != a {
		t.Error("vCPUs are not in order of their APIC IDs")
	}
	if s.Unknown[0][0] != "rcx" || s.Unknown[1][0] != "rax" {
		t.Errorf("unknown: %v", s.Unknown)
	}
	if want := uint64(0x19000 - 5*pageSize); s.Bytes != want {
		t.Errorf("%#x bytes, want %#x", s.Bytes, want)
	}
	if want := uint64(0xa0000 + 0x100000 - 0x19000); s.Untouched != want {
		t.Errorf("%#x bytes untouched, want %#x", s.Untouched, want)
	}
	if s.Info != InfoNone || len(s.Lost) != 3 {
		t.Fatalf("%v, %v", s.Info, s.Lost)
	}
	for _, l := range s.Lost {
		switch {
		case l.Reason == ErrSwapped && l == Loss{ErrSwapped, 2, 0x2000}:
		case l.Reason == vmcore.ErrExcluded && l == Loss{vmcore.ErrExcluded, 1, 0x3000}:
		case errors.Is(l.Reason, odd) && l.Pages == 2 && l.First == 0x101000:
		default:
			t.Errorf("%+v", l)
		}
	}
}

// A guest with a balloon in it, and pages missing: what is no hole is told.
func TestExtractZeros(t *testing.T) {
	const pages = 20000 // every second of them, and of the latter half each is lost but the last
	src := testSource{ram: newRAM(), slots: []Slot{{GPA: 0, Size: 2 * pages * pageSize}}, fail: make(map[uint64]error)}
	for i := range uint64(pages) {
		src.ranges = append(src.ranges, [2]uint64{2 * i * pageSize, pageSize})
		if i >= pages/2 && i < pages-1 {
			src.fail[2*i] = vmcore.ErrExcluded
		}
	}
	out := filepath.Join(t.TempDir(), "x")
	s, err := Extraction{Mem: src}.Write(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	if s.Bytes != (pages/2+1)*pageSize || s.Untouched != pages*pageSize || s.Lost[0].Pages != pages/2-1 {
		t.Errorf("%d bytes, %d untouched, lost: %v", s.Bytes, s.Untouched, s.Lost)
	}
	size, c := uint64(0), openExtracted(t, out)
	for _, p := range vmcore.Progs(c)[1:] {
		size += p.Filesz
	}
	if n := len(vmcore.Progs(c)); n < 4000 || n > 5000 || s.Zeros < pages/4 || s.Zeros > pages/2 || size != s.Bytes+s.Zeros*pageSize {
		t.Errorf("%d program headers, %d bytes, %d pages of zeros", n, size, s.Zeros)
	}
}

func TestExtractInfo(t *testing.T) {
	const text = "OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffffaf800000\n"
	good := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(text)}
	long := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(text + strings.Repeat("x", 4096-len(text)-1) + "\n")}
	other := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=5.10\nSYMBOL(_stext)=ffffffff81000000\n")}
	again := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(text + "KERNELOFFSET=0\n")}
	kernel := Register{0xffffffffb04018f0, FromVMCS}
	for _, tt := range []struct {
		name  string
		at    map[uint64]elfnote.Note
		eip   Register // in user mode, with page tables that have no kernel
		state InfoState
		want  *elfnote.Note
	}{
		{"one", map[uint64]elfnote.Note{0x1000: good}, kernel, InfoFound, &good},
		{"as long as can be, across a page", map[uint64]elfnote.Note{0x1000: long}, kernel, InfoFound, &long},
		{"not at the start of a page", map[uint64]elfnote.Note{0x1010: good}, kernel, InfoNone, nil},
		{"twice the same", map[uint64]elfnote.Note{0x1000: good, 0x4000: good}, kernel, InfoFound, &good},
		{"one of another kernel, before kexec", map[uint64]elfnote.Note{0x1000: other, 0x4000: good}, kernel, InfoFound, &good},
		{"of another kernel alone", map[uint64]elfnote.Note{0x1000: other}, kernel, InfoForeign, nil},
		{"two that could be", map[uint64]elfnote.Note{0x1000: again, 0x4000: good}, kernel, InfoAmbiguous, nil},
		{"no register to tell by", map[uint64]elfnote.Note{0x1000: other}, Register{}, InfoFound, &other},
		{"SYSENTER not set up", map[uint64]elfnote.Note{0x1000: good}, Register{0, FromVMCS}, InfoFound, &good},
		{"cut off by the end of memory", map[uint64]elfnote.Note{0x7000: long}, kernel, InfoNone, nil},
		{"no text", map[uint64]elfnote.Note{0x1000: {Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=\x01\n")}}, kernel, InfoNone, nil},
		{"another name", map[uint64]elfnote.Note{0x1000: {Name: "VMCOREINFX", Desc: []byte(text)}}, kernel, InfoNone, nil},
		{"another type", map[uint64]elfnote.Note{0x1000: {Name: elfnote.VMCoreInfo, Type: 1, Desc: []byte(text)}}, kernel, InfoNone, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := testSource{ram: newRAM(), ranges: [][2]uint64{{0x1000, 0x7000}}, fail: map[uint64]error{8: ErrNotMapped}}
			for at, n := range tt.at {
				for i, c := range n.Encode(binary.LittleEndian) {
					src.page(at + uint64(i))[(at+uint64(i))%pageSize] = c
				}
			}
			out := filepath.Join(t.TempDir(), "x")
			s, err := Extraction{Mem: src, VCPUs: []*Registers{{SysenterEIP: tt.eip}}}.Write(context.Background(), out)
			if err != nil {
				t.Fatal(err)
			}
			if want := tt.name == "two that could be" || strings.HasPrefix(tt.name, "one of another"); len(s.Infos) > 1 != want {
				t.Errorf("%d notes found", len(s.Infos))
			}
			if s.Info != tt.state {
				t.Errorf("%v, want %v", s.Info, tt.state)
			}
			c := openExtracted(t, out)
			i, ok := c.Notes().Find(elfnote.VMCoreInfo, 0)
			if ok != (tt.want != nil) {
				t.Fatalf("in the core: %v", ok)
			}
			if ok {
				if n, err := c.Notes().Note(i, 4096); err != nil || !n.Equal(*tt.want) {
					t.Errorf("%v, %v", n, err)
				}
			}
		})
	}
}

// The page tables tell which of two kernels runs, and that one does not.
func TestExtractInfoByPageTables(t *testing.T) {
	const uts = 0xffffffff82bfb000
	r := newRAM()
	root := r.table()
	r.place(root, 4, uts, 1, 0x7000|link)
	r.place(root, 4, 0xffffffff82000000, 2, 0x3000000|link|x86.Large)
	copy(r.page(0x7000)[4+2*65:], "6.1.0-56-amd64")
	cpu := &Registers{CR0: Register{0x80050033, FromVMCS}, CR4: Register{0x170ef0, FromVMCS}, CR3: Register{root | 6, FromVMCS}, LongMode: true}
	f := infoFinder{mem: r}
	for _, tt := range []struct {
		name, text string
		runs       bool
	}{
		{"the running kernel's", "OSRELEASE=6.1.0-56-amd64\nSYMBOL(init_uts_ns)=ffffffff82bfb000\nOFFSET(uts_namespace.name)=4\n", true},
		{"another release's", "OSRELEASE=6.1.0-56-amd6\nSYMBOL(init_uts_ns)=ffffffff82bfb000\nOFFSET(uts_namespace.name)=4\n", false},
		{"one that was elsewhere", "OSRELEASE=6.1.0-56-amd64\nSYMBOL(init_uts_ns)=ffffffff82bfb010\nOFFSET(uts_namespace.name)=4\n", false},
		{"one without page tables, which may be", "OSRELEASE=6.1.0-56-amd64\nSYMBOL(init_uts_ns)=ffffffff83bfb000\nOFFSET(uts_namespace.name)=4\n", true},
		{"where its text is", "OSRELEASE=6.1.0-56-amd64\nSYMBOL(_stext)=ffffffff82000000\nNUMBER(phys_base)=16777216\n", true},
		{"of an earlier boot, in another place", "OSRELEASE=6.1.0-56-amd64\nSYMBOL(_stext)=ffffffff82000000\nNUMBER(phys_base)=33554432\n", false},
		{"one that does not say where", "OSRELEASE=6.1.0-56-amd64\n", true},
	} {
		if got := f.runs(elfnote.Note{Desc: []byte(tt.text)}, []*Registers{cpu}); got != tt.runs {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestExtractNothing(t *testing.T) {
	dir := t.TempDir()
	src := testSource{ram: newRAM(), ranges: [][2]uint64{{0x1000, 0x1000}}, fail: map[uint64]error{1: vmcore.ErrExcluded}}
	s, err := Extraction{Mem: src}.Write(context.Background(), filepath.Join(dir, "x"))
	if !errors.Is(err, vmcore.ErrNoMemory) || s == nil || s.Bytes != 0 || s.Lost[0] != (Loss{vmcore.ErrExcluded, 1, 0x1000}) {
		t.Errorf("%v, %v", s, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Error(left)
	}
}
