package clients

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// A client is a reader of dumps. It returns what it read of the core, as far as
// a change to the notes must not change it, and says whether it saw VMCSINFO.
type client struct {
	name string
	tool string
	read func(t *testing.T, core string) (text string, vmcsinfo bool, err error)
	// shows: it tells of a note that it does not know.
	shows bool
}

var clients = []client{
	{name: "readelf -n", tool: "readelf", read: readelf, shows: true},
	{name: "eu-readelf -n", tool: "eu-readelf", read: euReadelf, shows: true},
	{name: "crash --osrelease", tool: "crash", read: crashRelease},
	{name: "makedumpfile --dump-dmesg", tool: "makedumpfile", read: dmesg},
	{name: "makedumpfile -c -d 31", tool: "makedumpfile", read: refilter, shows: true},
	{name: "makedumpfile -E -d 31", tool: "makedumpfile", read: refilterELF, shows: true},
	{name: "drgn", tool: "drgn", read: drgn},
	{name: "gdb", tool: "gdb", read: gdb},
}

// run runs a client, with a bound on its time.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TERM=dumb")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var vmcsLine = regexp.MustCompile(`(?m)^ *VMCSINFO.*\n(   .*\n)*`)

func readelf(t *testing.T, core string) (string, bool, error) {
	out, err := run(t, "readelf", "-nW", core)
	return notesOf(out), vmcsLine.MatchString(out), err
}

func euReadelf(t *testing.T, core string) (string, bool, error) {
	out, err := run(t, "eu-readelf", "-n", core)
	return notesOf(out), vmcsLine.MatchString(out), err
}

// notesOf strips the line that tells where the notes are, and VMCSINFO.
func notesOf(out string) string {
	out = regexp.MustCompile(`(?m)^(Displaying notes found|Note segment of).*\n`).ReplaceAllString(out, "")
	return vmcsLine.ReplaceAllString(out, "")
}

func crashRelease(t *testing.T, core string) (string, bool, error) {
	out, err := run(t, "crash", "--osrelease", core)
	return out, false, err
}

func dmesg(t *testing.T, core string) (string, bool, error) {
	log := filepath.Join(t.TempDir(), "dmesg")
	if out, err := run(t, "makedumpfile", "--message-level", "4", "--dump-dmesg", "-f", core, log); err != nil {
		return out, false, err
	}
	b, err := os.ReadFile(log)
	return string(b), false, err
}

// refilter makes a kdump-compressed dump of the core. A note that it does not
// know must be in there, as it was.
func refilter(t *testing.T, core string) (string, bool, error) {
	return filtered(t, core, "-c")
}

func refilterELF(t *testing.T, core string) (string, bool, error) {
	return filtered(t, core, "-E")
}

func filtered(t *testing.T, core, form string) (string, bool, error) {
	dump := filepath.Join(t.TempDir(), "dump")
	if out, err := run(t, "makedumpfile", "--message-level", "4", form, "-d", "31", "-f", core, dump); err != nil {
		return out, false, err
	}
	b, err := os.ReadFile(dump)
	if err != nil {
		return "", false, err
	}
	note := noteOf(t, core).Encode(orderOf(t, core))
	at := bytes.Index(b, note)
	// Without the note the file must be what it was before: compare its
	// memory by what makedumpfile itself reads of it.
	text, _, err := dmesg(t, dump)
	return text, at >= 0, err
}

// drgn opens the core as a kernel's and reads VMCOREINFO and memory.
func drgn(t *testing.T, core string) (string, bool, error) {
	script := filepath.Join(t.TempDir(), "probe.py")
	if err := os.WriteFile(script, []byte(`
import drgn, re, sys
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
print(prog.flags, prog.platform)
for addr in sys.argv[2:]:
    print(prog.read(int(addr, 0), 64, True).hex())
`), 0o600); err != nil {
		return "", false, err
	}
	c, err := vmcore.OpenFile(core)
	if err != nil {
		return "", false, err
	}
	args := []string{script, core}
	for r := range c.Ranges() {
		args = append(args, "0x"+hex(r.Addr), "0x"+hex(r.Addr+r.Size-64))
	}
	c.Close()
	out, err := run(t, "/usr/bin/python3", args...)
	return out, false, err
}

// gdb opens the core as any process's, and reads memory by virtual address.
func gdb(t *testing.T, core string) (string, bool, error) {
	c, err := vmcore.OpenFile(core)
	if err != nil {
		return "", false, err
	}
	args := []string{"-batch", "-nx"}
	starts, ends := map[uint64]bool{}, []uint64{}
	for _, p := range vmcore.Progs(c) {
		if p.Filesz > 0 && p.Vaddr != 0 {
			starts[p.Vaddr] = true
			ends = append(ends, p.Vaddr+p.Filesz)
		}
	}
	c.Close()
	slices.Sort(ends)
	for _, end := range ends {
		if !starts[end] && len(args) < 12 { // not within a segment that was split
			args = append(args, "-ex", "x/8xg 0x"+hex(end-64))
		}
	}
	out, err := run(t, "gdb", append(args, "-c", core)...)
	return strings.ReplaceAll(out, core, "CORE"), false, err
}

// cores are the real cores, and what each of them holds enough for.
var cores = []struct {
	name    string
	clients string // those that can read it whole, by name
}{
	{"deb-t1.mdf", "readelf eu-readelf crash makedumpfile drgn gdb"},
	{"cloud-c1.mdf", "readelf eu-readelf crash makedumpfile drgn gdb"},
	{"deb-t1.elf31", "readelf eu-readelf makedumpfile drgn gdb"},   // crash 8.0 opens no core whose
	{"cloud-c1.elf31", "readelf eu-readelf makedumpfile drgn gdb"}, // phdr[1] has p_offset 0
	{"deb-t4-smp4.thin", "readelf eu-readelf crash drgn gdb"},
	{"deb-d1.qemu-elf.thin", "readelf crash drgn"}, // eu-readelf wants SHT_NOTE where there are sections
	{"deb-d1.qemu-elf-p.thin", "crash"},            // 65,801 program headers
	{"deb-d1.qemu-range", "readelf crash"},
}

// TestClients adds the note in each way and lets every client read the result.
func TestClients(t *testing.T) {
	for _, c := range cores {
		for _, how := range []string{"copy", "in place", "evict"} {
			if how == "evict" && !strings.HasPrefix(c.name, "deb-t1") {
				continue
			}
			t.Run(c.name+"/"+how, func(t *testing.T) {
				before := testcores.Open(t, c.name)
				after := inject(t, c.name, how)
				compare(t, c.clients, before, after)
			})
		}
	}
}

// compare lets each of the clients read a core before and after the change.
func compare(t *testing.T, tools, before, after string) {
	for _, cl := range clients {
		if !strings.Contains(" "+tools+" ", " "+cl.tool+" ") {
			continue
		}
		t.Run(cl.name, func(t *testing.T) {
			testcores.Tool(t, cl.tool)
			want, _, err := cl.read(t, before)
			if err != nil {
				t.Fatalf("the original: %v\n%s", err, want)
			}
			got, seen, err := cl.read(t, after)
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if got = strings.ReplaceAll(got, after, before); got != want {
				t.Errorf("it reads\n%.2000s\nand of the original\n%.2000s", got, want)
			}
			if seen != cl.shows {
				t.Errorf("VMCSINFO seen: %v, want %v", seen, cl.shows)
			}
			if text := strings.TrimSpace(want); text == "" || text == "unknown" {
				t.Errorf("of the original it reads %q: this proves nothing", want)
			}
		})
	}
}

// TestUnused: every client reads a core with unused program headers (PT_NULL)
// between the PT_LOADs and after them.
func TestUnused(t *testing.T) {
	const name = "cloud-c1.mdf"
	for _, how := range []string{"copy", "in place"} {
		t.Run(how, func(t *testing.T) {
			before := withUnused(t, testcores.Open(t, name))
			after := injectInto(t, withUnused(t, testcores.Open(t, name)), name, how)
			compare(t, "readelf eu-readelf crash makedumpfile drgn gdb", before, after)
		})
	}
}

// withUnused adds an unused program header after phdr[1] and one at the end,
// where /proc/vmcore leaves room.
func withUnused(t *testing.T, path string) string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const ehsize, phentsize, phnum = 64, 56, 56 // sizes, and e_phnum's offset
	b := make([]byte, 4096)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint16(b[phnum:])
	binary.LittleEndian.PutUint16(b[phnum:], n+2)
	b = slices.Insert(b[:ehsize+int(n)*phentsize], ehsize+2*phentsize, make([]byte, phentsize)...)
	if _, err := f.WriteAt(append(b, make([]byte, phentsize)...), 0); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRemoved: after remove the clients read what they read of the original.
func TestRemoved(t *testing.T) {
	testcores.Tool(t, "readelf")
	path := inject(t, "deb-t1.mdf", "in place")
	f, err := vmcore.OpenFileRW(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	i, _ := f.Notes().Find(elfnote.VMCSInfo, 0)
	sp := f.Notes().Remove(i)
	p, err := f.Plan(sp, sp, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	got, seen, err := readelf(t, path)
	want, _, _ := readelf(t, testcores.Open(t, "deb-t1.mdf"))
	if err != nil || seen || got != want {
		t.Errorf("seen: %v, %v\n%s", seen, err, got)
	}
}
