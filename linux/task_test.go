package linux

import (
	"slices"
	"testing"

	"github.com/pkg/errors"
)

// kernelTypes adds the structs that tasks and modules need, much smaller than
// Linux's.
func kernelTypes(b *btfMaker) {
	i32, u64, char := b.int("int", 4, true), b.int("unsigned long", 8, false), b.int("char", 1, true)
	text, void := b.ptr(char), b.ptr(0)
	list := b.structure("list_head", 16, m{"next", void, 0}, m{"prev", void, 8})
	kernfs := b.n + 2 // it points to itself
	b.ptr(kernfs)
	b.structure("kernfs_node", 16, m{"name", text, 0}, m{"__parent", kernfs - 1, 8})
	cgroup := b.structure("cgroup", 8, m{"kn", kernfs - 1, 0})
	css := b.structure("cgroup_subsys_state", 8, m{"cgroup", b.ptr(cgroup), 0})
	set := b.structure("css_set", 32, m{"dfl_cgrp", b.ptr(cgroup), 0}, m{"subsys", b.array(b.ptr(css), 3), 8})
	signal := b.structure("signal_struct", 16, m{"thread_head", list, 0})
	b.structure("task_struct", 128, m{"pid", i32, 0}, m{"tgid", i32, 4}, m{"comm", b.array(char, 16), 8},
		m{"mm", void, 24}, m{"cpu", i32, 32}, m{"tasks", list, 40}, m{"signal", b.ptr(signal), 56},
		m{"thread_node", list, 64}, m{"cgroups", b.ptr(set), 80}, m{"group_leader", void, 88})
	b.structure("mm_struct", 32, m{"pgd", void, 0}, m{"owner", void, 8}, m{"arg_start", u64, 16}, m{"arg_end", u64, 24})
	symbols := b.structure("mod_kallsyms", 24, m{"symtab", void, 0}, m{"num_symtab", i32, 8}, m{"strtab", text, 16})
	b.structure("module", 96, m{"list", list, 0}, m{"name", b.array(char, 56), 16}, m{"kallsyms", b.ptr(symbols), 72})
	btf := b.structure("btf", 16, m{"data", void, 0}, m{"data_size", i32, 8})
	b.structure("btf_module", 40, m{"list", list, 0}, m{"module", void, 16}, m{"btf", b.ptr(btf), 24})
}

// text adds a string to the direct map.
func text(f *fake, s string) uint64 {
	at := f.alloc(len(s) + 1)
	f.put(at, []byte(s))
	return at
}

// cgroup adds a cgroup with the names on its path.
func cgroup(f *fake, names ...string) uint64 {
	node := f.alloc(16, 0, text(f, ""))
	for _, name := range names {
		node = f.alloc(16, 0, text(f, name), 8, node)
	}
	return f.alloc(8, 0, node)
}

// process adds a task whose command line is args, and returns it.
func process(f *fake, pid uint32, comm string, args string, cgroups uint64) uint64 {
	// Its only user page is 0x7000000ff000: entries 224, 0, 0, 255.
	page := (f.heap + 4095) &^ 4095
	f.heap = page + 5*4096
	entry := func(table int, index, value uint64) {
		f.put(page+uint64(table)*4096+8*index, le64(value))
	}
	phys := func(table int) uint64 { return page - fakeDirect + uint64(table)*4096 }
	for i := range 5 {
		f.put(page+uint64(i)*4096, make([]byte, 4096))
	}
	entry(0, 224, phys(1)|7)
	entry(1, 0, phys(2)|7)
	entry(2, 0, phys(3)|7)
	entry(3, 255, phys(4)|7)
	entry(3, 256, ^phys(4)&(1<<52-4096)|1<<8) // PROT_NONE
	entry(3, 257, 0xfffff00000000f2)          // swapped out
	f.put(page+4*4096+0x10, []byte(args))
	mm := f.alloc(32, 0, page, 16, 0x7000000ff010, 24, 0x7000000ff010+uint64(len(args)))
	signal := f.alloc(16)
	task := f.alloc(128, 24, mm, 56, signal, 80, cgroups)
	f.put(task, append(le32(pid), le32(pid)...))
	f.put(task+8, []byte(comm))
	f.put(task+32, le32(3))
	f.put(signal, le64(task+64))
	f.put(task+64, le64(signal))
	f.put(mm+8, le64(task))
	return task
}

func TestTasks(t *testing.T) {
	f := newFake()
	kernelTypes(f.btf)
	root := cgroup(f)
	v2 := f.alloc(32, 0, cgroup(f, "machine.slice", "machine-qemu\\x2d1\\x2dweb.scope"))
	v1 := f.alloc(32, 0, root, 16, f.alloc(8, 0, root), 24, f.alloc(8, 0, cgroup(f, "v1", "vm")))
	init := f.image("init_task", make([]byte, 128)) // a kernel thread
	f.put(init+80, le64(f.alloc(32, 0, root)))
	qemu := process(f, 101, "qemu-system-x86", "qemu\x00-name\x00\x00guest=web\x00", v2)
	other := process(f, 102, "other", "", v1)
	f.put(init+40, le64(qemu+40))
	f.put(qemu+40, le64(other+40))
	f.put(other+40, le64(init+40))
	k := f.open(t)

	tasks, err := collect(k.Tasks())
	if err != nil || len(tasks) != 3 || tasks[1].Addr != qemu {
		t.Fatal(tasks, err)
	}
	task := tasks[1]
	pid, err1 := task.PID()
	tgid, err2 := task.TGID()
	cpu, err3 := task.CPU()
	comm, err4 := task.Comm()
	if pid != 101 || tgid != 101 || cpu != 3 || comm != "qemu-system-x86" || err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		t.Error(pid, tgid, cpu, comm, err1, err2, err3, err4)
	}
	if args, err := task.CommandLine(); err != nil || !slices.Equal(args, []string{"qemu", "-name", "", "guest=web"}) {
		t.Errorf("%q (%v)", args, err)
	}
	for i, want := range []string{"/", "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope", "/v1/vm"} {
		if path, err := tasks[i].Cgroup(); path != want || err != nil {
			t.Errorf("%q (%v), want %q", path, err, want)
		}
	}
	if args, err := tasks[0].CommandLine(); args != nil || err != nil {
		t.Errorf("a kernel thread has %q (%v)", args, err)
	}
	threads, err := collect(task.Threads())
	if err != nil || len(threads) != 1 || threads[0].Addr != qemu {
		t.Error(threads, err)
	}
	mm, _ := task.MM()
	if owner, ok, err := k.Owner(mm); !ok || owner.Addr != qemu || err != nil {
		t.Error(owner, ok, err)
	}
	user, err := k.UserMemory(mm)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := user.Read(b, 0x700000100010); err != nil || string(b) != "qemu" {
		t.Errorf("a PROT_NONE page: %q (%v)", b, err)
	}
	if n, err := user.Read(b, 0x700000100ffe); n != 2 || !errors.Is(err, ErrSwapped) {
		t.Errorf("a swapped page: %d bytes, %v", n, err)
	}
	if _, err := user.Read(b, fakeDirect); err == nil {
		t.Error("a process reads kernel memory")
	}
}

// makedumpfile -d 8 and above leave user memory out: the command line goes,
// what the kernel knows stays.
func TestCommandLineExcluded(t *testing.T) {
	f := newFake()
	kernelTypes(f.btf)
	at := process(f, 7, "qemu", "qemu\x00", f.alloc(32, 0, cgroup(f, "vm")))
	user := f.heap // the objects after the user page follow it
	k := f.open(t)
	mm, _ := k.Task(at).MM()
	memory, err := k.UserMemory(mm)
	if err != nil {
		t.Fatal(err)
	}
	phys, _, err := memory.Phys(0x7000000ff010)
	if err != nil || phys >= user-fakeDirect {
		t.Fatalf("%#x (%v)", phys, err)
	}
	delete(f.pages, phys&^4095)
	if args, err := k.Task(at).CommandLine(); !errors.Is(err, errFake) {
		t.Errorf("%q (%v)", args, err)
	}
	if path, err := k.Task(at).Cgroup(); path != "/vm" || err != nil {
		t.Errorf("%q (%v)", path, err)
	}
}

// A cgroup whose parent is itself.
func TestCgroupLoop(t *testing.T) {
	f := newFake()
	kernelTypes(f.btf)
	node := f.alloc(16, 0, text(f, "x"))
	f.put(node+8, le64(node))
	task := process(f, 1, "x", "", f.alloc(32, 0, f.alloc(8, 0, node)))
	k := f.open(t)
	if path, err := k.Task(task).Cgroup(); !errors.Is(err, ErrLoop) {
		t.Errorf("%q (%v)", path, err)
	}
}

func TestModules(t *testing.T) {
	f := newFake()
	kernelTypes(f.btf)
	split := newBTF(f.btf)
	split.structure("kvm", 24, m{"id", 1, 8})
	code := f.alloc(256)
	symtab := f.alloc(24 * 4)
	symbol := func(i int, name uint32, info byte, section uint16, at, size uint64) {
		b := append(le32(name), info, 0, byte(section), byte(section>>8))
		f.put(symtab+uint64(24*i), append(append(b, le64(at)...), le64(size)...))
	}
	symbol(1, 1, 2, 7, code, 64)       // a function
	symbol(2, 5, 1, 8, code+64, 16)    // an object
	symbol(3, 13, 0x10, 0, code+32, 0) // undefined
	strtab := f.alloc(32)
	f.put(strtab, []byte("\x00run\x00vm_list\x00printk\x00"))
	sound := f.alloc(24, 0, symtab, 8, 4, 16, strtab)
	huge := f.alloc(24, 0, symtab, 8, 1<<31-1, 16, strtab)
	module := func(name string, symbols uint64) uint64 {
		at := f.alloc(96, 72, symbols)
		f.put(at+16, []byte(name))
		return at
	}
	bad, kvm := module("bad", huge), module("kvm", sound)
	list := func(head uint64, items ...uint64) {
		at := head
		for _, item := range items {
			f.put(at, le64(item))
			at = item
		}
		f.put(at, le64(head))
	}
	data := f.alloc(len(split.bytes()))
	f.put(data, split.bytes())
	btf := f.alloc(40, 16, kvm, 24, f.alloc(16, 0, data, 8, uint64(len(split.bytes()))))
	list(f.image("modules", make([]byte, 16)), bad, kvm)
	list(f.image("btf_modules", make([]byte, 16)), btf)
	k := f.open(t)

	all, err := k.Modules()
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	mod, err := k.Module("kvm")
	if mod == nil {
		t.Fatal(err)
	}
	if at, err := mod.Symbol("vm_list"); at != code+64 || err != nil {
		t.Errorf("vm_list is at %#x (%v)", at, err)
	}
	for _, name := range []string{"printk", "list", ""} {
		if at, err := mod.Symbol(name); !errors.Is(err, ErrNoSymbol) {
			t.Errorf("%q is at %#x (%v)", name, at, err)
		}
	}
	if s, err := k.SymbolAt(code + 0x10); s.String() != "run+0x10 [kvm]" || err != nil {
		t.Errorf("%v (%v)", s, err)
	}
	if _, err := k.SymbolAt(code + 200); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("error is %v", err)
	}
	if s, err := mod.Struct("kvm"); err != nil || s.Size() != 24 {
		t.Errorf("%v (%v)", s, err)
	}
	if _, err := mod.Struct("task_struct"); err != nil {
		t.Errorf("a type of the kernel: %v", err)
	}
	if _, err := k.Struct("kvm"); err == nil {
		t.Error("the kernel has the module's type")
	}
	if _, err := all[0].Symbol("run"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("2^31 symbols: %v", err)
	}
	k.moduleBytes = maxModuleBytes
	again := &Module{Name: "again", Addr: kvm, k: k, fields: mod.fields}
	if _, err := again.Symbol("run"); !errors.Is(err, ErrTooMany) {
		t.Errorf("modules that share a table: %v", err)
	}
	if _, err := all[0].Struct("kvm"); !errors.Is(err, ErrNoBTF) {
		t.Errorf("a module without BTF: %v", err)
	}
	if none, err := k.Module("none"); none != nil || err != nil {
		t.Errorf("%v (%v)", none, err)
	}
}
