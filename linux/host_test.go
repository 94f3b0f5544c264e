package linux_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// openDump returns a dump's memory and VMCOREINFO.
func openDump(r io.ReaderAt, size int64) (linux.Memory, string, error) {
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

var hosts = []string{"amd-6.1", "amd-6.12", "amd-7.3"}

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
	VCPUs    linux.Field `btf:"vcpu_array"`
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
	Blocking  linux.Field `btf:"stat.generic.blocking"`
	MPState   linux.Field `btf:"arch.mp_state"`
	Running   linux.Field `btf:"wants_to_run,optional"`
	Exit      linux.Field `btf:"run->exit_reason"`
	RIP       linux.Field `btf:"arch.rip|arch.regs[16]"`
	HostRoot  linux.Field `btf:"arch.root_mmu.root.hpa"`
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

type slotFields struct {
	Base  linux.Field `btf:"base_gfn"`
	Pages linux.Field `btf:"npages"`
	User  linux.Field `btf:"userspace_addr"`
	Flags linux.Field `btf:"flags"`
	ID    linux.Field `btf:"id"`
	Node  [2]linux.Field
}

type slotsFields struct {
	Tree  linux.Field `btf:"gfn_tree"`
	Index linux.Field `btf:"node_idx"`
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
	amd, err := k.Module("kvm_amd")
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
	var m machineFields
	var v vcpuFields
	var c vmcbFields
	var s slotFields
	for _, f := range []struct {
		module *linux.Module
		name   string
		to     any
	}{{kvm, "kvm", &m}, {kvm, "kvm_vcpu", &v}, {amd, "vcpu_svm", &c}, {kvm, "kvm_memory_slot", &s}} {
		typ, err := f.module.Struct(f.name)
		if err == nil {
			err = typ.Bind(f.to)
		}
		if err != nil {
			return err
		}
	}
	slot, err := kvm.Struct("kvm_memory_slot")
	if err != nil {
		return err
	}
	for i := range s.Node {
		if s.Node[i], err = slot.Field(fmt.Sprintf("gfn_node[%d]", i)); err != nil {
			return err
		}
	}
	memslots, err := kvm.Struct("kvm_memslots")
	if err != nil {
		return err
	}
	var set slotsFields
	if err := memslots.Bind(&set); err != nil {
		return err
	}
	r := reader{k: k}
	for machine, err := range k.List(list, m.List) {
		if err != nil {
			return err
		}
		mm := r.value(machine, m.MM)
		owner, _, err := k.Owner(mm)
		r.check(err)
		task(&r, b, owner, mm)
		fmt.Fprintf(b, "  %d vCPUs, by pid %d\n", r.value(machine, m.Online), r.value(machine, m.PID))
		spaces, err := k.Elements(machine, m.Memslots)
		r.check(err)
		for space, slots := range spaces {
			root, err := k.At(slots, set.Tree)
			r.check(err)
			// A slot is in two trees: the one in use and the one being changed.
			node := s.Node[r.value(slots, set.Index)%2]
			for slot, err := range k.RBTree(root, node) {
				if r.check(err); r.err != nil {
					break
				}
				fmt.Fprintf(b, "  slot %d.%d: %#x pages from %#x at %#x, flags %#x\n", space, r.value(slot, s.ID),
					r.value(slot, s.Pages), r.value(slot, s.Base), r.value(slot, s.User), r.value(slot, s.Flags))
			}
		}
		vcpus, err := k.At(machine, m.VCPUs)
		r.check(err)
		for e, err := range k.XArray(vcpus) {
			if r.check(err); r.err != nil {
				break
			}
			regs, err := k.Elements(e.Value, v.Regs)
			r.check(err)
			fmt.Fprintf(b, "  vCPU %d: thread %d on CPU %d, NPT at %#x, CR4 %#x, registers %x\n", r.value(e.Value, v.ID),
				r.value(e.Value, v.Thread), r.value(e.Value, v.CPU), r.value(e.Value, v.Root), r.value(e.Value, v.CR4), regs)
			fmt.Fprintf(b, "    mode %d, MP state %d, preempted %d, blocking %d, last exit %d, RIP %#x, own NPT at %#x\n",
				r.value(e.Value, v.Mode), r.value(e.Value, v.MPState), r.value(e.Value, v.Preempted), r.value(e.Value, v.Blocking),
				r.value(e.Value, v.Exit), r.value(e.Value, v.RIP), r.value(e.Value, v.HostRoot))
			fmt.Fprintf(b, "    VMCB at %#x, own at %#x\n", r.value(e.Value, c.Current), r.value(e.Value, c.VMCB01))
			fmt.Fprintf(b, "    VMCB: exit %#x, RIP %#x, RSP %#x, CR3 %#x, NPT %#x\n", r.value(e.Value, c.ExitCode),
				r.value(e.Value, c.RIP), r.value(e.Value, c.RSP), r.value(e.Value, c.CR3), r.value(e.Value, c.NestedC3))
		}
	}
	return r.err
}

func task(r *reader, b *strings.Builder, t linux.Task, mm uint64) {
	pid, err := t.TGID()
	r.check(err)
	comm, err := t.Comm()
	r.check(err)
	cgroup, err := t.Cgroup()
	r.check(err)
	args, err := r.k.CommandLine(mm)
	r.check(err)
	fmt.Fprintf(b, "machine of pid %d, %q in %s\n  %q\n", pid, comm, cgroup, args)
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
}

func (r *reader) check(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) value(addr uint64, f linux.Field) uint64 {
	v, err := r.k.Value(addr, f)
	r.check(err)
	return v
}
