package linux_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// openDump returns a dump's memory and VMCOREINFO.
func openDump(r io.ReaderAt, size int64) (physmem.Reader, string, error) {
	core, err := vmcore.Open(r, size)
	if err != nil {
		return nil, "", err
	}
	i, ok := core.Notes().Find(elfnote.VMCoreInfo, 0)
	if !ok {
		return nil, "", errors.New("no VMCOREINFO")
	}
	note, err := core.Notes().Note(i, 1<<16)
	return core, string(note.Desc), err
}

// openHost opens one of testdata/cores/linux-host.
func openHost(name string) (*linux.Kernel, error) {
	dir, err := testcores.Dir()
	if err != nil {
		return nil, err
	}
	image, err := testcores.Load(dir, "linux-host/"+name)
	if err != nil {
		return nil, err
	}
	mem, info, err := openDump(image, image.Size())
	if err != nil {
		return nil, err
	}
	return linux.Open(mem, info)
}

var hosts = []string{"amd-5.10", "amd-6.1", "amd-6.1-d31", "amd-6.12", "amd-7.3", "intel-6.1", "intel-6.1-d31", "intel-6.12"}

// Dumps of real hosts: what is printed of them was compared with what the hosts
// themselves printed before (testdata/cores/linux-host/README.md).
func TestHosts(t *testing.T) {
	for _, name := range hosts {
		t.Run(name, func(t *testing.T) {
			k, err := openHost(name)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := report(&b, k); err != nil {
				t.Error(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if testcores.Update() {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", b.String(), want)
			}
		})
	}
}

// machineFields and vcpuFields are of KVM's structures.
type machineFields struct {
	List     linux.Field `btf:"vm_list"`
	MM       linux.Field `btf:"mm"`
	PID      linux.Field `btf:"userspace_pid"`
	Online   linux.Field `btf:"online_vcpus.counter"`
	Array    linux.Field `btf:"vcpu_array,optional"`
	VCPUs    linux.Field `btf:"vcpus,optional"`
	Memslots linux.Field `btf:"memslots"`
}

type vcpuFields struct {
	ID     linux.Field `btf:"vcpu_id"`
	CPU    linux.Field `btf:"cpu"`
	Thread linux.Field `btf:"pid->numbers[0].nr"`
	Regs   linux.Field `btf:"arch.regs"`
	CR4    linux.Field `btf:"arch.cr4"`
	Root   linux.Field `btf:"arch.mmu->root.hpa|arch.mmu->root_hpa"`
	// What package kvm reads besides.
	Mode      linux.Field `btf:"mode"`
	Preempted linux.Field `btf:"preempted"`
	Blocking  linux.Field `btf:"stat.generic.blocking,optional"`
	MPState   linux.Field `btf:"arch.mp_state"`
	Running   linux.Field `btf:"wants_to_run,optional"`
	Exit      linux.Field `btf:"run->exit_reason"`
	RIP       linux.Field `btf:"arch.rip|arch.regs[16]"`
	HostRoot  linux.Field `btf:"arch.root_mmu.root.hpa|arch.root_mmu.root_hpa"`
}

type vmcbFields struct {
	ExitCode linux.Field `btf:"vmcb->control.exit_code"`
	NestedC3 linux.Field `btf:"vmcb->control.nested_cr3"`
	RIP      linux.Field `btf:"vmcb->save.rip"`
	RSP      linux.Field `btf:"vmcb->save.rsp"`
	CR3      linux.Field `btf:"vmcb->save.cr3"`
	Current  linux.Field `btf:"current_vmcb->pa"`
	VMCB01   linux.Field `btf:"vmcb01.pa"`
}

type vmcsFields struct {
	VMCS    linux.Field `btf:"loaded_vmcs->vmcs"`
	VMCS01  linux.Field `btf:"vmcs01.vmcs"`
	Loaded  linux.Field `btf:"loaded_vmcs"`
	Shadow  linux.Field `btf:"vmcs01.shadow_vmcs"`
	VCPU    linux.Field `btf:"vcpu"`
	In02    linux.Field `btf:"nested.vmcs02"`
	VMCS02  linux.Field `btf:"nested.vmcs02.vmcs"`
	Cached  linux.Field `btf:"nested.cached_vmcs12"`
	Current linux.Field `btf:"nested.current_vmptr"`
}

type slotFields struct {
	Base  linux.Field `btf:"base_gfn"`
	Pages linux.Field `btf:"npages"`
	User  linux.Field `btf:"userspace_addr"`
	Flags linux.Field `btf:"flags"`
	ID    linux.Field `btf:"id"`
	Node  [2]linux.Field
}

type slotsFields struct {
	Tree  linux.Field `btf:"gfn_tree,optional"`
	Index linux.Field `btf:"node_idx,optional"`
	Array linux.Field `btf:"memslots,optional"`
	Used  linux.Field `btf:"used_slots,optional"`
}

// report prints what a host's kernel tells of its machines, as TestHosts does.
func report(b *strings.Builder, k *linux.Kernel) error {
	fmt.Fprintln(b, "release", k.Release(), "build ID", k.BuildID())
	n, err := k.Symbols()
	if err != nil {
		return err
	}
	fmt.Fprintln(b, n, "symbols")
	banner, err := k.Symbol("linux_banner")
	if err != nil {
		return err
	}
	text, err := k.CString(banner, 512)
	if err != nil {
		return err
	}
	text, _, _ = strings.Cut(text, " (") // the rest names people
	at, err := k.SymbolAt(banner + 3)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%v: %s\n", at, text)
	modules, err := k.Modules()
	if err != nil {
		return err
	}
	for _, m := range modules {
		fmt.Fprintln(b, "module", m.Name)
	}
	return machines(b, k)
}

func machines(b *strings.Builder, k *linux.Kernel) error {
	kvm, err := k.Module("kvm")
	if err != nil {
		return err
	}
	list, err := kvm.Symbol("vm_list")
	if err != nil {
		return err
	}
	at, err := k.SymbolAt(list)
	if err != nil {
		return err
	}
	fmt.Fprintln(b, at)
	r := reader{k: k}
	r.bind(kvm, "kvm", &r.m)
	r.bind(kvm, "kvm_vcpu", &r.v)
	r.bind(kvm, "kvm_memslots", &r.set)
	slot := r.bind(kvm, "kvm_memory_slot", &r.s)
	for _, vendor := range []struct {
		module, name string
		to           any
	}{{"kvm_amd", "vcpu_svm", &r.c}, {"kvm_intel", "vcpu_vmx", &r.x}} {
		m, err := k.Module(vendor.module)
		r.check(err)
		if m == nil {
			continue
		}
		if _, err := m.Struct(vendor.name); err == nil { // modules have BTF
			r.bind(m, vendor.name, vendor.to)
		}
	}
	for i := range r.s.Node {
		if r.err == nil && r.set.Tree.Valid() {
			r.s.Node[i], err = slot.Field(fmt.Sprintf("gfn_node[%d]", i))
			r.check(err)
		}
	}
	if r.err != nil {
		return r.err
	}
	for machine, err := range k.List(list, r.m.List) {
		if err != nil {
			return err
		}
		mm := r.value(machine, r.m.MM)
		owner, _, err := k.Owner(mm)
		r.check(err)
		task(&r, b, owner, mm)
		fmt.Fprintf(b, "  %d vCPUs, by pid %d\n", r.value(machine, r.m.Online), r.value(machine, r.m.PID))
		spaces, err := k.Elements(machine, r.m.Memslots)
		r.check(err)
		for space, slots := range spaces {
			for _, slot := range r.slots(slots) {
				fmt.Fprintf(b, "  slot %d.%d: %#x pages from %#x at %#x, flags %#x\n", space, r.value(slot, r.s.ID),
					r.value(slot, r.s.Pages), r.value(slot, r.s.Base), r.value(slot, r.s.User), r.value(slot, r.s.Flags))
			}
		}
		for _, vcpu := range r.vcpus(machine) {
			r.vcpu(b, vcpu)
		}
	}
	return r.err
}

func (r *reader) slots(set uint64) (all []uint64) {
	if !r.set.Tree.Valid() {
		first, err := r.k.At(set, r.set.Array)
		r.check(err)
		for i := range r.value(set, r.set.Used) {
			all = append(all, first+i*r.set.Array.Stride)
		}
		return all
	}
	root, err := r.k.At(set, r.set.Tree)
	r.check(err)
	// A slot is in two trees: the one in use and the one being changed.
	for slot, err := range r.k.RBTree(root, r.s.Node[r.value(set, r.set.Index)%2]) {
		if r.check(err); err == nil {
			all = append(all, slot)
		}
	}
	return all
}

func (r *reader) vcpus(machine uint64) (all []uint64) {
	if !r.m.Array.Valid() {
		vcpus, err := r.k.Elements(machine, r.m.VCPUs)
		r.check(err)
		return slices.DeleteFunc(vcpus, func(at uint64) bool { return at == 0 })
	}
	at, err := r.k.At(machine, r.m.Array)
	r.check(err)
	for e, err := range r.k.XArray(at) {
		if r.check(err); err == nil {
			all = append(all, e.Value)
		}
	}
	return all
}

func (r *reader) vcpu(b *strings.Builder, at uint64) {
	regs, err := r.k.Elements(at, r.v.Regs)
	r.check(err)
	thread, _ := r.k.Value(at, r.v.Thread) // none before it first runs
	fmt.Fprintf(b, "  vCPU %d: thread %d on CPU %d, tables at %#x, CR4 %#x, registers %x\n", r.value(at, r.v.ID), thread,
		r.value(at, r.v.CPU), r.value(at, r.v.Root), r.value(at, r.v.CR4), regs)
	fmt.Fprintf(b, "    mode %d, MP state %d, preempted %d, last exit %d, RIP %#x, own tables at %#x", r.value(at, r.v.Mode),
		r.value(at, r.v.MPState), r.value(at, r.v.Preempted), r.value(at, r.v.Exit), r.value(at, r.v.RIP), r.value(at, r.v.HostRoot))
	if r.v.Blocking.Valid() {
		fmt.Fprintf(b, ", blocking %d", r.value(at, r.v.Blocking))
	}
	fmt.Fprintln(b)
	if r.c.Current.Valid() {
		fmt.Fprintf(b, "    VMCB at %#x, own at %#x: exit %#x, RIP %#x, RSP %#x, CR3 %#x, NPT %#x\n", r.value(at, r.c.Current),
			r.value(at, r.c.VMCB01), r.value(at, r.c.ExitCode), r.value(at, r.c.RIP), r.value(at, r.c.RSP), r.value(at, r.c.CR3),
			r.value(at, r.c.NestedC3))
	}
	if r.x.VMCS.Valid() {
		at -= r.x.VCPU.Offset()
		phys := func(f linux.Field) uint64 {
			addr, _, err := r.k.Phys(r.value(at, f))
			r.check(err)
			return addr
		}
		fmt.Fprintf(b, "    VMCS at %#x, own at %#x, VMCS12 at %#x\n", phys(r.x.VMCS), phys(r.x.VMCS01), r.value(at, r.x.Current))
	}
}

func task(r *reader, b *strings.Builder, t linux.Task, mm uint64) {
	pid, err := t.TGID()
	r.check(err)
	comm, err := t.Comm()
	r.check(err)
	cgroup, err := t.Cgroup()
	r.check(err)
	fmt.Fprintf(b, "machine of pid %d, %q in %s\n", pid, comm, cgroup)
	args, err := r.k.CommandLine(mm)
	if errors.Is(err, vmcore.ErrExcluded) { // with -d 8
		fmt.Fprintf(b, "  no command line: %v\n", err)
	} else {
		r.check(err)
		fmt.Fprintf(b, "  %q\n", args)
	}
	for thread, err := range t.Threads() {
		if r.check(err); r.err != nil {
			return
		}
		pid, err := thread.PID()
		r.check(err)
		comm, err := thread.Comm()
		r.check(err)
		cpu, err := thread.CPU()
		r.check(err)
		running, err := thread.OnCPU()
		r.check(err)
		fmt.Fprintf(b, "  thread %d %q on CPU %d, running %v\n", pid, comm, cpu, running)
	}
}

// A reader keeps the first error.
type reader struct {
	k   *linux.Kernel
	err error

	m   machineFields
	v   vcpuFields
	c   vmcbFields
	x   vmcsFields
	s   slotFields
	set slotsFields
}

func (r *reader) check(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) bind(m *linux.Module, name string, to any) *linux.Struct {
	s, err := m.Struct(name)
	if err == nil {
		err = s.Bind(to)
	}
	r.check(err)
	return s
}

func (r *reader) value(addr uint64, f linux.Field) uint64 {
	v, err := r.k.Value(addr, f)
	r.check(err)
	return v
}
