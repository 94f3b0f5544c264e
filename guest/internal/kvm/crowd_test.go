package kvm

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/crowd"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// newCrowd returns a host to which machines can be added, and its KVM.
func newCrowd(t testing.TB) (*crowd.Host, *KVM) {
	t.Helper()
	image := testcores.Image(t, "linux-host/amd-6.12")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	n, ok := core.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	if !ok {
		t.Fatal("no VMCOREINFO")
	}
	c := crowd.New(core, string(n.Desc))
	v, err := Open(c.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	return c, v
}

// A big host: 1,000 machines of 8 vCPUs and 16 memory slots. What counts is how
// often memory is read and how much is allocated, which is the same on every
// machine that runs the test; the processor time is a bound that a slow one
// keeps.
func TestThousandMachines(t *testing.T) {
	const n, vcpus, slots = 1000, 8, 16
	c, _ := newCrowd(t)
	like, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	var machines []crowd.Object
	for i := range n {
		machines = append(machines, c.Machine(10000+100*i, vcpus, slots, like))
	}
	c.Link(machines...)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c.Reads = 0
	start := cpuTime(t)
	k, err := linux.Open(c, c.Note)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	got := [3]int{}
	for m, err := range v.Machines() {
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Slots()
		if err != nil {
			t.Fatal(err)
		}
		p, ok, err := m.Process()
		if cgroup, _ := p.Cgroup(); !ok || err != nil || cgroup == "/" {
			t.Fatalf("machine of pid %d: cgroup %q (%v)", m.PID, cgroup, err)
		}
		got[0]++
		got[1] += len(s)
		for c, err := range m.VCPUs() {
			if err != nil {
				t.Fatal(err)
			}
			if tid := m.PID + 1 + c.ID; c.Thread != tid || c.Task == nil || c.State != InGuest || c.Regs.RIP != crowd.RIP(tid) || c.SVM.VMCB != crowd.NoVMCB(tid) {
				t.Fatalf("vCPU %+v", c)
			}
			got[2]++
		}
	}
	took := cpuTime(t) - start
	runtime.ReadMemStats(&after)
	if got != [3]int{n, n * slots, n * vcpus} {
		t.Errorf("machines, slots, vCPUs: %d", got)
	}
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("%v, %d reads, %d MiB allocated in all, by %d objects", took, c.Reads, allocated, after.Mallocs-before.Mallocs)
	if took > 5*time.Second && !raceDetector || c.Reads > 50*n || allocated > 256 {
		t.Errorf("%v, %d reads, %d MiB", took, c.Reads, allocated)
	}
}

// cpuTime returns the processor time that this process has used: a machine that
// does something else meanwhile does not add to it.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A list of machines that never ends is told and left.
func TestMillionMachines(t *testing.T) {
	c, v := newCrowd(t)
	first := c.Object("kvm")
	// Each page says that the next machine is in the next one.
	stride := (first.Size + 4095) &^ 4095
	link := first.At("vm_list") - first.Addr
	c.Put(v.list, 8, first.At("vm_list"))
	c.Endless = func(page []byte, addr uint64) {
		if off := addr % stride; link >= off && link < off+4096 {
			binary.LittleEndian.PutUint64(page[link-off:], c.Base+addr-off+stride+link)
		}
	}
	v.budget = 1 << 16 // maxObjects takes 16 times as long
	n := 0
	var last error
	for _, err := range v.Machines() {
		n++
		last = err
	}
	if n != 1<<16+1 || !errors.Is(last, linux.ErrTooMany) {
		t.Errorf("%d machines, error is %v", n, last)
	}
}
