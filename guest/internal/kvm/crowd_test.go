package kvm

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A crowd is the memory of a host, with more in it: what is added lies where
// the host's page tables map nothing.
type crowd struct {
	t     testing.TB
	host  physmem.Reader
	pages map[uint64]*[4096]byte
	reads int
	note  string // VMCOREINFO
	// endless fills a page of what is added and was not set, if it is not
	// nil; addr counts from base.
	endless func(page []byte, addr uint64)

	k    *linux.Kernel
	v    *KVM
	base uint64 // virtual address of what is added
	size uint64

	structs map[string]*linux.Struct
	fields  map[[2]string]linux.Field
}

// crowdTable is the physical address of the page table of what is added, and
// crowdPhys that of what is added: above all memory.
const (
	crowdTable = 1 << 40
	crowdPhys  = crowdTable + 1<<32
)

func newCrowd(t testing.TB) *crowd {
	image := testcores.Image(t, "linux-host/amd-6.12")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
	note, err := core.Notes().Note(i, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, host: core, pages: map[uint64]*[4096]byte{}, note: string(note.Desc),
		structs: map[string]*linux.Struct{}, fields: map[[2]string]linux.Field{}}
	if c.k, err = linux.Open(c, c.note); err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(c.note, "SYMBOL(swapper_pg_dir)=")
	var pgd uint64
	if _, err := fmt.Sscanf(line, "%x", &pgd); err != nil {
		t.Fatal(err)
	}
	for i := uint64(511); c.base == 0; i-- {
		if entry, err := c.k.Pointer(pgd + 8*i); err != nil || i == 256 {
			t.Fatal("all of the address space is used")
		} else if entry == 0 {
			c.base = 0xffff<<48 | i<<39
			// One page table, whose entries are pages of 1 GiB.
			c.put(pgd+8*i, 8, crowdTable|1)
			for g := range uint64(64) {
				c.physPut(crowdTable+8*g, 8, (crowdPhys+g<<30)|0x81)
			}
		}
	}
	// Nothing of the old tables may be cached.
	if c.k, err = linux.Open(c, c.note); err != nil {
		t.Fatal(err)
	}
	if c.v, err = Open(c.k); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *crowd) ReadPhys(p []byte, addr uint64) (n int, err error) {
	c.reads++
	for n < len(p) {
		at := addr + uint64(n)
		part := p[n:min(uint64(len(p)), uint64(n)+4096-at%4096)]
		if page := c.pages[at&^4095]; page != nil {
			copy(part, page[at%4096:])
		} else if at >= crowdTable {
			if clear(part); c.endless != nil && len(part) == 4096 && at >= crowdPhys {
				c.endless(part, at-crowdPhys)
			}
		} else if _, err := c.host.ReadPhys(part, at); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (c *crowd) physPut(addr, size, v uint64) {
	page := c.pages[addr&^4095]
	if page == nil {
		page = new([4096]byte)
		c.ReadPhys(page[:], addr&^4095)
		c.pages[addr&^4095] = page
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	copy(page[addr%4096:], b[:size])
}

func (c *crowd) put(addr, size, v uint64) {
	phys := addr - c.base + crowdPhys
	if c.base == 0 || addr < c.base || addr-c.base > c.size {
		var err error
		if phys, _, err = c.k.Phys(addr); err != nil {
			c.t.Fatal(err)
		}
	}
	c.physPut(phys, size, v)
}

// An object is a struct in the memory that is added.
type object struct {
	c    *crowd
	s    *linux.Struct
	addr uint64
}

// object adds an object. Types are looked for in kvm_amd, and so in the kernel,
// and in kvm.
func (c *crowd) object(name string) object {
	s := c.structs[name]
	if s == nil {
		m, err := c.k.Module("kvm_amd")
		if err != nil {
			c.t.Fatal(err)
		}
		if s, err = m.Struct(name); err != nil {
			if s, err = c.v.kvm.Struct(name); err != nil {
				c.t.Fatal(err)
			}
		}
		c.structs[name] = s
	}
	o := object{c, s, c.base + c.size}
	c.size += (s.Size() + 63) &^ 63
	return o
}

func (o object) field(path string) linux.Field {
	f, ok := o.c.fields[[2]string{o.s.Name, path}]
	if !ok {
		var err error
		if f, err = o.s.Field(path); err != nil {
			o.c.t.Fatal(err)
		}
		o.c.fields[[2]string{o.s.Name, path}] = f
	}
	return f
}

// at returns the address of a member.
func (o object) at(path string) uint64 { return o.addr + o.field(path).Offset() }

// set sets a member.
func (o object) set(path string, v uint64) object {
	o.c.put(o.at(path), min(o.field(path).Size, 8), v)
	return o
}

// ring makes a list of a head and its entries.
func (c *crowd) ring(head uint64, entries ...uint64) {
	at := head
	for _, e := range append(entries, head) {
		c.put(at, 8, e)
		c.put(e+8, 8, at)
		at = e
	}
}

// machine adds a machine with its process, and returns its struct kvm.
func (c *crowd) machine(pid, vcpus, slots int, cgroups uint64) object {
	process := c.object("task_struct").set("tgid", uint64(pid)).set("pid", uint64(pid)).set("cgroups", cgroups)
	mm := c.object("mm_struct").set("owner", process.addr)
	signal := c.object("signal_struct")
	process.set("mm", mm.addr).set("signal", signal.addr)
	threads := []uint64{process.at("thread_node")}
	set := c.object("kvm_memslots")
	m := c.object("kvm").set("mm", mm.addr).set("userspace_pid", uint64(pid)).set("memslots[0]", set.addr)

	all := make([]object, slots)
	for i := range all {
		all[i] = c.object("kvm_memory_slot").set("base_gfn", uint64(i)<<10).set("npages", 1<<10).set("id", uint64(i)).
			set("userspace_addr", 0x7f0000000000+uint64(i)<<30)
	}
	var tree func(all []object) uint64
	tree = func(all []object) uint64 {
		if len(all) == 0 {
			return 0
		}
		mid := len(all) / 2
		all[mid].set("gfn_node[0].rb_left", tree(all[:mid])).set("gfn_node[0].rb_right", tree(all[mid+1:]))
		return all[mid].at("gfn_node[0]")
	}
	set.set("gfn_tree.rb_node", tree(all))

	node := c.object("xa_node")
	m.set("vcpu_array.xa_head", node.addr|2)
	for i := range vcpus {
		tid := uint64(pid + 1 + i)
		thread := c.object("task_struct").set("tgid", uint64(pid)).set("pid", tid).set("signal", signal.addr).set("cgroups", cgroups).set("mm", mm.addr)
		threads = append(threads, thread.at("thread_node"))
		id := c.object("pid").set("numbers[0].nr", tid)
		vcpu := c.object("vcpu_svm")
		vcpu.set("vcpu.vcpu_id", uint64(i)).set("vcpu.pid", id.addr).
			set("vcpu.arch.regs[16]", 0xffffffff81000000+tid).set("vcpu.mode", 1).
			set("vmcb01.pa", 0x2000*tid).set("current_vmcb", vcpu.at("vmcb01"))
		node.set(fmt.Sprintf("slots[%d]", i), vcpu.at("vcpu"))
	}
	c.ring(signal.at("thread_head"), threads...)
	return m
}

// A big host: 1,000 machines of 8 vCPUs and 16 memory slots. What counts is how
// often memory is read and how much is allocated, which is the same on every
// machine that runs the test; the processor time is a bound that a slow one keeps.
func TestThousandMachines(t *testing.T) {
	const n, vcpus, slots = 1000, 8, 16
	c := newCrowd(t)
	var cgroups uint64
	for m, err := range c.v.Machines() {
		if err != nil {
			t.Fatal(err)
		}
		process, _, err := m.Process()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := c.k.Struct("task_struct")
		f, _ := s.Field("cgroups")
		if cgroups, err = c.k.Value(process.Addr, f); err != nil {
			t.Fatal(err)
		}
		break
	}
	var links []uint64
	for i := range n {
		links = append(links, c.machine(10000+100*i, vcpus, slots, cgroups).at("vm_list"))
	}
	c.ring(c.v.list, links...)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c.reads = 0
	start := cpuTime(t)
	k, err := linux.Open(c, c.note)
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
			if tid := m.PID + 1 + c.ID; c.Thread != tid || c.Task == nil || c.State != InGuest || c.Regs.RIP != 0xffffffff81000000+uint64(tid) || c.SVM.VMCB != 0x2000*uint64(tid) {
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
	t.Logf("%v, %d reads, %d MiB allocated in all, by %d objects", took, c.reads, allocated, after.Mallocs-before.Mallocs)
	if took > 5*time.Second && !raceDetector || c.reads > 50*n || allocated > 256 {
		t.Errorf("%v, %d reads, %d MiB", took, c.reads, allocated)
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
	c := newCrowd(t)
	first := c.object("kvm")
	// Each page says that the next machine is in the next one.
	v := c.v
	stride := (first.s.Size() + 4095) &^ 4095
	link := first.at("vm_list") - first.addr
	c.put(v.list, 8, first.at("vm_list"))
	c.endless = func(page []byte, addr uint64) {
		if off := addr % stride; link >= off && link < off+4096 {
			binary.LittleEndian.PutUint64(page[link-off:], c.base+addr-off+stride+link)
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
