package clients

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A process with memory of its own stands in for QEMU: testdata/standin.c, or
// without gcc the test itself, run again with this in its environment. That
// maps over a gigabyte, which gcore takes long to write.
const standIn = "VMCSNOTE_TEST_STAND_IN"

const (
	guestPages = 64
	guestAt    = 0x100000 // guest-physical
)

func TestMain(m *testing.M) {
	if os.Getenv(standIn) != "" {
		b, err := unix.Mmap(-1, 0, guestPages*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(os.Stdin, b); err != nil {
			panic(err)
		}
		fmt.Printf("%p\n", b)
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func guestMemory() []byte {
	b := make([]byte, guestPages*4096)
	for i := range b {
		b[i] = byte(i>>12*7 + i)
	}
	return b
}

// A core by gcore gives the guest's memory; with VMCS notes in it gdb reads of
// it what it read before.
func TestGcore(t *testing.T) {
	testcores.Tool(t, "gcore")
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), standIn+"=1")
	if _, err := exec.LookPath("gcc"); err == nil {
		small := filepath.Join(dir, "standin")
		if text, err := run(t, "gcc", "-pthread", "-o", small, "testdata/standin.c"); err != nil {
			t.Fatal(text, err)
		}
		cmd = exec.Command(small)
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		cmd.Wait()
	}()
	if _, err := in.Write(guestMemory()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	hva, err := strconv.ParseUint(strings.TrimSpace(line), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := run(t, "gcore", "-o", filepath.Join(dir, "core"), strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(text, err)
	}
	core := filepath.Join(dir, fmt.Sprint("core.", cmd.Process.Pid))

	f, err := vmcore.OpenFile(core)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	threads := qemucore.Threads(f.Notes())
	if !slices.ContainsFunc(threads, func(th qemucore.Thread) bool { return th.PID == uint32(cmd.Process.Pid) && th.FSBase != 0 }) || len(threads) < 2 {
		t.Errorf("threads %x, expected several, %d among them", threads, cmd.Process.Pid)
	}
	virt, ok := vmcore.ProcessMemory(f)
	if !ok {
		t.Fatal("not a process's core")
	}

	layout := vmcs.BuiltinFor(0x12)[0]
	cpu := &qemucore.CPU{
		VMCS:  &vmcs.VMCS{Addr: 0x1000, Page: append([]byte{0x12}, make([]byte, vmcs.PageSize-1)...), Layout: layout},
		Regs:  &guest.Registers{RIP: guest.Register{Value: 0x1234, Origin: guest.FromKVMDirty}},
		Slots: []guest.Slot{{GPA: guestAt, HVA: hva, Size: guestPages * 4096}},
	}
	info := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=12\n")}
	sp, err := qemucore.AddNotes(f.Notes(), qemucore.ProcessNotes(info, []*qemucore.CPU{cpu}))
	if err != nil {
		t.Fatal(err)
	}
	noted := filepath.Join(dir, "noted")
	if _, err := f.CopyTo(t.Context(), noted, sp, vmcore.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("eu-stack"); err == nil {
		before, _ := run(t, "eu-stack", "--core", core)
		if after, _ := run(t, "eu-stack", "--core", noted); after != strings.ReplaceAll(before, core, noted) {
			t.Errorf("eu-stack reads\n%s, and with the notes\n%s", before, after)
		}
	}
	var seen []string
	for _, path := range []string{core, noted} {
		text, err := run(t, "gdb", "-q", "-nx", "-batch", "-ex", "info threads", "-ex", "info registers", "-ex", fmt.Sprintf("x/8xg %#x", hva), "-c", path)
		if err != nil || !strings.Contains(text, "rip") {
			t.Fatal(text, err)
		}
		seen = append(seen, text)
	}
	if seen[0] != seen[1] {
		t.Errorf("gdb reads\n%s, and with the notes\n%s", seen[0], seen[1])
	}

	g, err := vmcore.OpenFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	cpus, err := qemucore.CPUs(g.Notes(), layout)
	if err != nil || len(cpus) != 1 {
		t.Fatal(len(cpus), err)
	}
	extracted := filepath.Join(dir, "guest")
	mem := qemucore.NewGuestMemory(virt, cpus[0].Slots)
	if _, err := (guest.Extraction{Mem: mem, VCPUs: []*guest.Registers{cpus[0].Regs}}).Write(t.Context(), extracted); err != nil {
		t.Fatal(err)
	}
	e, err := vmcore.OpenFile(extracted)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b := make([]byte, guestPages*4096)
	if _, err := e.ReadPhys(b, guestAt); err != nil || !bytes.Equal(b, guestMemory()) {
		t.Errorf("the guest's memory differs, %v", err)
	}
	if text, err := run(t, "gdb", "-q", "-nx", "-batch", "-ex", "print/x $rip", "-c", extracted); err != nil || !strings.Contains(text, "= 0x1234") {
		t.Error(text, err)
	}

	// In place, too: the notes grow at the end of the file.
	f.Close()
	rw, err := vmcore.OpenFileRW(core)
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	plan, err := rw.Plan(sp, sp, vmcore.End)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	rw.Close()
	inPlace, err := vmcore.OpenFile(core)
	if err != nil {
		t.Fatal(err)
	}
	defer inPlace.Close()
	for _, f := range inPlace.Verify() {
		t.Errorf("verify: %s: %s", f.Text, f.Readers)
	}
	if text, err := run(t, "gdb", "-q", "-nx", "-batch", "-ex", "info threads", "-ex", "info registers", "-ex", fmt.Sprintf("x/8xg %#x", hva), "-c", core); err != nil || text != seen[0] {
		t.Errorf("gdb reads\n%s, and with the notes in place\n%s", seen[0], text)
	}
}
