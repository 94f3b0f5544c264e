package linux_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/testcores"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// insides are the golden guests: testdata/cores/linux-inside has what each of
// them printed itself.
var insides = []string{"5.10", "6.1", "6.1-panic", "6.12", "7.3", "7.3-panic"}

// insideDir is where they are.
const insideDir = "../testdata/cores/linux-inside"

// sampleEvery is how many lines of a guest's /proc/kallsyms there are to one
// that scripts/guestcore keeps.
const sampleEvery = 200

// said returns what the guest itself printed, of one kind.
func said(t testing.TB, name, kind string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(insideDir, name+"."+kind))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// An insideGuest is a guest as scripts/guestcore dumps it: its memory, and the
// vCPUs' registers.
type insideGuest struct {
	mem  physmem.Reader
	regs []*guest.Registers
	k    *linux.Kernel // nil unless by openInside
}

// opened are the golden guests that were opened, for several tests.
var opened = map[string]insideGuest{}

// openInside opens one of the golden guests.
func openInside(t testing.TB, name string) insideGuest {
	t.Helper()
	if g, ok := opened[name]; ok {
		return g
	}
	image := testcores.Image(t, "linux-inside/"+name)
	g, err := readInside(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	if g.k, err = linux.Find(g.mem, g.roots()); err != nil {
		t.Fatal(err)
	}
	opened[name] = g
	return g
}

// readInside reads a dump that QEMU made.
func readInside(r io.ReaderAt, size int64) (g insideGuest, err error) {
	core, err := vmcore.Open(r, size)
	if err != nil {
		return g, err
	}
	g.mem = core
	notes := core.Notes()
	for i, n := range notes.Notes {
		if n.Name != "QEMU" {
			continue
		}
		note, err := notes.Note(i, 1<<12)
		if err != nil {
			return g, err
		}
		g.regs = append(g.regs, qemuState(note.Desc))
	}
	return g, nil
}

// qemuState reads QEMU's note of a CPU in long mode, as package guest writes
// it.
func qemuState(b []byte) *guest.Registers {
	r := &guest.Registers{LongMode: true}
	b = b[8:]
	next := func() guest.Register {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return guest.Register{Value: v, Origin: guest.FromKVM}
	}
	for _, i := range []int{guest.RAX, guest.RBX, guest.RCX, guest.RDX, guest.RSI, guest.RDI, guest.RSP, guest.RBP} {
		r.GPR[i] = next()
	}
	for i := guest.R8; i <= guest.R15; i++ {
		r.GPR[i] = next()
	}
	r.RIP, r.RFLAGS = next(), next()
	for i := range 10 { // CS, DS, ES, FS, GS...
		b = b[16:]
		if base := next(); i == 4 {
			r.Seg[guest.GS].Base = base
		}
	}
	r.CR0, _, r.CR2, r.CR3, r.CR4, r.KernelGSBase = next(), next(), next(), next(), next(), next()
	return r
}

// roots returns the page tables of vCPUs, all of them unless some are given.
func (g insideGuest) roots(vcpus ...int) (all []linux.Root) {
	for i, r := range g.regs {
		if len(vcpus) > 0 && !slices.Contains(vcpus, i) {
			continue
		}
		root := linux.Root{CR3: r.CR3.Value, Levels: 4}
		if r.CR4.Value&x86.CR4LA57 != 0 {
			root.Levels = 5
		}
		all = append(all, root)
	}
	return all
}

// look tells what the guest was doing.
func (g insideGuest) look(k *linux.Kernel) *inside.System {
	m := new(guest.Machine)
	for _, r := range g.regs {
		m.VCPUs = append(m.VCPUs, &guest.VCPU{Regs: r})
	}
	return inside.Ask(k, m, inside.Options{Backtrace: true})
}

// describe prints what a look tells.
func describe(s *inside.System) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, host name %q, up %v at %v, panic %q, %v\n", s.OS, s.Release, s.Hostname, s.Uptime, s.Time, s.Panic, s.Err)
	for i, a := range s.VCPUs {
		fmt.Fprintf(&b, "vCPU %d: %v %q %d at %s\n", i, a.HasTask, a.Task, a.PID, a.Symbol)
		for _, f := range a.Backtrace {
			fmt.Fprintf(&b, "  %#x %s by %s\n", f.Addr, f.Symbol, f.Found)
		}
	}
	return b.String()
}

// TestInside looks into guests: what they do is what scripts/guestcore has them
// do.
func TestInside(t *testing.T) {
	for _, name := range insides {
		t.Run(name, func(t *testing.T) {
			g := openInside(t, name)
			s := g.look(g.k)
			compareGolden(t, filepath.Join("testdata", "inside-"+name+".txt"), describe(s))
			if five := name == "6.12" || name == "7.3"; five != (g.k.Levels() == 5) {
				t.Errorf("page tables of %d levels", g.k.Levels())
			}
			if fixed := name == "6.1"; fixed != strings.Contains(g.k.VMCoreInfo(), "KERNELOFFSET=0\n") {
				t.Errorf("VMCOREINFO is %q", g.k.VMCoreInfo())
			}
			facts := said(t, name, "facts")
			if !strings.Contains(facts, "Linux "+s.Hostname+" "+s.Release+" #1 ") {
				t.Errorf("the guest said %s", facts)
			}
			for i, v := range s.VCPUs[:2] {
				if line := fmt.Sprintf("%s %d\n", v.Task, v.PID); v.Task != "sh" && !strings.Contains(facts, line) {
					t.Errorf("vCPU %d: %q, %d; the guest said %s", i, v.Task, v.PID, facts)
				}
			}
			var up float64
			if _, rest, _ := strings.Cut(facts, "uptime "); rest != "" {
				fmt.Sscan(rest, &up)
			}
			if late := s.Uptime.Seconds() - up; up == 0 || late < -1 || late > 60 {
				t.Errorf("up %v, %v before that by the guest", s.Uptime, up)
			}
		})
	}
}

// TestInsideUser finds kernels by a vCPU that runs a program, with page tables
// that have next to nothing of the kernel.
func TestInsideUser(t *testing.T) {
	const user, cpu = 1 << 12, 1 // page-table isolation: the bit in CR3
	for _, name := range insides {
		if strings.HasSuffix(name, "-panic") {
			continue
		}
		g := openInside(t, name)
		if r := g.regs[cpu]; r.RIP.Value>>63 != 0 || r.CR3.Value&user == 0 {
			t.Errorf("%s: RIP %v, CR3 %v", name, r.RIP, r.CR3)
		}
		k, err := linux.Find(g.mem, g.roots(cpu))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if u, err := k.UTS(); u.Hostname != "inside" || err != nil {
			t.Errorf("%s: %q, %v", name, u.Hostname, err)
		}
	}
}

// TestInsideForgedGS: a program that loads another processor's GS base is still
// told as the task that runs.
func TestInsideForgedGS(t *testing.T) {
	g := openInside(t, "6.1")
	forged := *g.regs[1]
	forged.Seg[guest.GS].Base = g.regs[0].Seg[guest.GS].Base
	g.regs = []*guest.Registers{&forged}
	if v := g.look(g.k).VCPUs[0]; v.Task != "burner" || v.Symbol != "/bin/burner+0x1046" {
		t.Errorf("%+v", v)
	}
}

// TestInsideSymbols compares the symbols with the guests' own /proc/kallsyms.
func TestInsideSymbols(t *testing.T) {
	for _, name := range insides {
		t.Run(name, func(t *testing.T) {
			k := openInside(t, name).k
			n, modules := 0, 0
			for line := range strings.Lines(said(t, name, "kallsyms")) {
				want := strings.TrimSuffix(line, "\n")
				if module, ok := strings.CutSuffix(want, "\t[dummy]"); ok {
					checkModuleSymbol(t, k, module)
					modules++
					continue
				}
				if got := k.SymbolLine(n); got != want {
					t.Fatalf("symbol %d is %q, want %q", n, got, want)
				}
				n += sampleEvery
			}
			if all, err := k.Symbols(); n < all || n >= all+sampleEvery || err != nil || modules < 10 {
				t.Errorf("%d symbols, of which some up to %d were compared, and %d of a module (%v)", all, n, modules, err)
			}
		})
	}
}

// checkModuleSymbol compares a line of /proc/kallsyms with what the module has.
func checkModuleSymbol(t *testing.T, k *linux.Kernel, line string) {
	t.Helper()
	var want uint64
	var kind, name string
	if _, err := fmt.Sscanf(line, "%x %s %s", &want, &kind, &name); err != nil {
		t.Fatal(line, err)
	}
	m, err := k.Module("dummy")
	if err != nil {
		t.Fatal(err)
	}
	if addr, err := m.Symbol(name); addr != want || err != nil {
		t.Errorf("%s is at %#x (%v), want %#x", name, addr, err, want)
	}
	if s, err := k.SymbolAt(want); s.Addr != want || s.Module != "dummy" || err != nil {
		t.Errorf("at %#x is %v (%v), want %s", want, s, err, name)
	}
}

// TestInsideLog compares the log with what the guests printed on their
// consoles.
func TestInsideLog(t *testing.T) {
	for _, name := range insides {
		t.Run(name, func(t *testing.T) {
			k := openInside(t, name).k
			var log strings.Builder
			for r, err := range k.Log() {
				if err != nil {
					t.Fatal(err)
				}
				// dmesg indents the lines after a record's first; the
				// console has the time on each.
				text, prefix := r.String(), ""
				if end := strings.Index(text, "] "); end > 0 {
					prefix = text[:end+2]
				}
				log.WriteString(strings.ReplaceAll(text, "\n"+strings.Repeat(" ", len(prefix)), "\n"+prefix) + "\n")
			}
			if want := said(t, name, "console"); log.String() != want {
				t.Errorf("the log differs from the console: %s", firstDifference(log.String(), want))
			}
		})
	}
}

// firstDifference returns the first lines in which two texts differ.
func firstDifference(got, want string) string {
	in := bufio.NewScanner(strings.NewReader(want))
	for line := range strings.Lines(got) {
		if line = strings.TrimSuffix(line, "\n"); !in.Scan() || in.Text() != line {
			return fmt.Sprintf("%q, want %q", line, in.Text())
		}
	}
	return "it ends too early"
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if testcores.Update() {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
