package linux

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"github.com/pkg/errors"
)

// A Task is a thread (struct task_struct).
type Task struct {
	k    *Kernel
	Addr uint64 // of the task_struct
}

type taskFields struct {
	PID   Field `btf:"pid"`
	TGID  Field `btf:"tgid"`
	Comm  Field `btf:"comm"`
	MM    Field `btf:"mm"`
	CPU   Field `btf:"thread_info.cpu|cpu"` // moved in 5.16
	OnCPU Field `btf:"on_cpu,optional"`     // with CONFIG_SMP
	Tasks Field `btf:"tasks"`
	Head  Field `btf:"signal->thread_head"`
	Node  Field `btf:"thread_node"`

	Unified Field `btf:"cgroups->dfl_cgrp->kn,optional"`
	Subsys  Field `btf:"cgroups->subsys,optional"`

	mm struct {
		PGD      Field `btf:"pgd"`
		Owner    Field `btf:"owner,optional"` // with CONFIG_MEMCG
		ArgStart Field `btf:"arg_start"`
		ArgEnd   Field `btf:"arg_end"`
	}
	css struct {
		Node Field `btf:"cgroup->kn"`
	}
	kernfs struct {
		Name   Field `btf:"name"`
		Parent Field `btf:"__parent|parent"` // renamed in 6.15
	}
}

func (f *taskFields) bindings() []Binding {
	return []Binding{
		{"", "task_struct", f}, {"", "mm_struct", &f.mm}, {"", "cgroup_subsys_state", &f.css}, {"", "kernfs_node", &f.kernfs},
	}
}

func (k *Kernel) taskFields() (*taskFields, error) {
	return k.tasks.get(func() (*taskFields, error) {
		f := new(taskFields)
		return f, k.bind(f.bindings()...)
	})
}

// task returns the task whose task_struct is at addr. It reads nothing.
func (k *Kernel) task(addr uint64) Task { return Task{k, addr} }

// Tasks returns all processes: the first thread of each.
func (k *Kernel) Tasks() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		f, err := k.taskFields()
		var first uint64
		if err == nil {
			first, err = k.Symbol("init_task")
		}
		if err != nil {
			yield(Task{}, err)
			return
		}
		if !yield(k.task(first), nil) {
			return
		}
		for addr, err := range k.List(first+f.Tasks.Offset(), f.Tasks) {
			if !yield(k.task(addr), err) {
				return
			}
		}
	}
}

// Threads returns all threads of the task's process, itself among them.
func (t Task) Threads() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		f, err := t.k.taskFields()
		var head uint64
		if err == nil {
			head, err = t.k.At(t.Addr, f.Head)
		}
		if err != nil {
			yield(t, err)
			return
		}
		for addr, err := range t.k.List(head, f.Node) {
			if !yield(t.k.task(addr), err) {
				return
			}
		}
	}
}

// number reads one of the task's fields.
func (t Task) number(of func(*taskFields) Field) (uint64, error) {
	f, err := t.k.taskFields()
	if err != nil {
		return 0, err
	}
	return t.k.Value(t.Addr, of(f))
}

// PID returns the thread's ID.
func (t Task) PID() (int, error) {
	n, err := t.number(func(f *taskFields) Field { return f.PID })
	return int(int32(n)), err
}

// TGID returns the process's ID, which users know as its pid.
func (t Task) TGID() (int, error) {
	n, err := t.number(func(f *taskFields) Field { return f.TGID })
	return int(int32(n)), err
}

// CPU returns the processor that the thread runs on or ran on last.
func (t Task) CPU() (int, error) {
	n, err := t.number(func(f *taskFields) Field { return f.CPU })
	return int(int32(n)), err
}

// OnCPU reports whether the thread was running.
func (t Task) OnCPU() (bool, error) {
	f, err := t.k.taskFields()
	if err != nil || !f.OnCPU.Valid() {
		return false, err
	}
	n, err := t.k.Value(t.Addr, f.OnCPU)
	return n != 0, err
}

// MM returns the address of the process's mm_struct, 0 for a kernel thread.
func (t Task) MM() (uint64, error) {
	return t.number(func(f *taskFields) Field { return f.MM })
}

// Comm returns the thread's name, 15 bytes at most. It is the user's choice,
// and can hold any byte but NUL.
func (t Task) Comm() (string, error) {
	f, err := t.k.taskFields()
	if err != nil {
		return "", err
	}
	return t.k.fieldText(t.Addr, f.Comm)
}

// maxCgroups bounds how deep cgroups are nested, and maxSubsys how many
// hierarchies there are.
const (
	maxCgroups = 128
	maxSubsys  = 64
)

// Cgroup returns the path of the task's cgroup in the unified hierarchy. If
// that is the root, as on a host that uses cgroup v1, it is the first path of
// another hierarchy that is not.
func (t Task) Cgroup() (string, error) {
	f, err := t.k.taskFields()
	if err != nil {
		return "", err
	}
	if !f.Unified.Valid() {
		return "", errors.New("the kernel has no cgroups")
	}
	node, err := t.k.Value(t.Addr, f.Unified)
	if err != nil {
		return "", err
	}
	path, err := t.k.kernfsPath(node)
	if err != nil || path != "/" || !f.Subsys.Valid() || f.Subsys.Count > maxSubsys {
		return path, err
	}
	subsys, err := t.k.Elements(t.Addr, f.Subsys)
	if err != nil {
		return path, nil
	}
	for _, css := range subsys {
		if css == 0 {
			continue
		}
		if node, err := t.k.Value(css, f.css.Node); err == nil {
			if other, err := t.k.kernfsPath(node); err == nil && other != "/" {
				return other, nil
			}
		}
	}
	return path, nil
}

// kernfsPath returns a node's path from the root of its hierarchy.
func (k *Kernel) kernfsPath(node uint64) (string, error) {
	f, err := k.taskFields()
	if err != nil {
		return "", err
	}
	var names []string
	for range maxCgroups {
		parent, err := k.Value(node, f.kernfs.Parent)
		if err != nil {
			return "", err
		}
		if parent == 0 { // the root's own name is ""
			slices.Reverse(names)
			return "/" + strings.Join(names, "/"), nil
		}
		name, err := k.fieldText(node, f.kernfs.Name)
		if err != nil {
			return "", err
		}
		names = append(names, name)
		node = parent
	}
	return "", errors.WithMessage(ErrLoop, "cgroup")
}

// maxArgs bounds a command line.
const maxArgs = 128 << 10

// CommandLine returns the arguments of the process that an mm_struct belongs
// to. They are user memory, which many dumps leave out; the user may have
// overwritten them.
func (k *Kernel) CommandLine(mm uint64) ([]string, error) {
	f, err := k.taskFields()
	if err != nil {
		return nil, err
	}
	start, err1 := k.Value(mm, f.mm.ArgStart)
	end, err2 := k.Value(mm, f.mm.ArgEnd)
	user, err3 := k.UserMemory(mm)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	if end <= start {
		return nil, nil
	}
	b := make([]byte, min(end-start, maxArgs))
	if _, err := user.Read(b, start); err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(b, []byte{0})
	return strings.Split(string(b), "\x00"), nil
}

// Owner returns the task that an mm_struct belongs to: its process's first
// thread. It is false if the kernel does not keep it (without CONFIG_MEMCG),
// and after the process has exited.
func (k *Kernel) Owner(mm uint64) (Task, bool, error) {
	f, err := k.taskFields()
	if err != nil || !f.mm.Owner.Valid() {
		return Task{}, false, err
	}
	addr, err := k.Value(mm, f.mm.Owner)
	return k.task(addr), addr != 0 && err == nil, err
}
