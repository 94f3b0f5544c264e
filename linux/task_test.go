package linux

import (
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

func TestTasks(t *testing.T) {
	f := fakelinux.New()
	f.Types.Tasks()
	root := f.Cgroup()
	v2 := f.Alloc(32, 0, f.Cgroup("machine.slice", "machine-qemu\\x2d1\\x2dweb.scope"))
	v1 := f.Alloc(32, 0, root, 16, f.Alloc(8, 0, root), 24, f.Alloc(8, 0, f.Cgroup("v1", "vm")))
	init := f.Image("init_task", make([]byte, 128)) // a kernel thread
	f.Put(init+80, fakelinux.LE64(f.Alloc(32, 0, root)))
	qemu := f.Process(101, "qemu-system-x86", "qemu\x00-name\x00\x00guest=web\x00", v2)
	other := f.Process(102, "other", "", v1)
	f.Put(init+40, fakelinux.LE64(qemu+40))
	f.Put(qemu+40, fakelinux.LE64(other+40))
	f.Put(other+40, fakelinux.LE64(init+40))
	k := openFake(t, f, f.Finish())

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
	mm, _ := task.MM()
	if args, err := k.CommandLine(mm); err != nil || !slices.Equal(args, []string{"qemu", "-name", "", "guest=web"}) {
		t.Errorf("%q (%v)", args, err)
	}
	for i, want := range []string{"/", "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope", "/v1/vm"} {
		if path, err := tasks[i].Cgroup(); path != want || err != nil {
			t.Errorf("%q (%v), want %q", path, err, want)
		}
	}
	threads, err := collect(task.Threads())
	if err != nil || len(threads) != 1 || threads[0].Addr != qemu {
		t.Error(threads, err)
	}
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
	f := fakelinux.New()
	f.Types.Tasks()
	at := f.Process(7, "qemu", "qemu\x00", f.Alloc(32, 0, f.Cgroup("vm")))
	user := f.Heap // the objects after the user page follow it
	k := openFake(t, f, f.Finish())
	mm, _ := k.task(at).MM()
	memory, err := k.UserMemory(mm)
	if err != nil {
		t.Fatal(err)
	}
	phys, _, err := memory.phys(0x7000000ff010)
	if err != nil || phys >= user-fakeDirect {
		t.Fatalf("%#x (%v)", phys, err)
	}
	delete(f.Pages, phys&^4095)
	if args, err := k.CommandLine(mm); !errors.Is(err, fakelinux.ErrMemory) {
		t.Errorf("%q (%v)", args, err)
	}
	if path, err := k.task(at).Cgroup(); path != "/vm" || err != nil {
		t.Errorf("%q (%v)", path, err)
	}
}

// A cgroup whose parent is itself.
func TestCgroupLoop(t *testing.T) {
	f := fakelinux.New()
	f.Types.Tasks()
	node := f.Alloc(16, 0, f.Text("x"))
	f.Put(node+8, fakelinux.LE64(node))
	task := f.Process(1, "x", "", f.Alloc(32, 0, f.Alloc(8, 0, node)))
	k := openFake(t, f, f.Finish())
	if path, err := k.task(task).Cgroup(); !errors.Is(err, ErrLoop) {
		t.Errorf("%q (%v)", path, err)
	}
}

func TestModules(t *testing.T) {
	f := fakelinux.New()
	f.Types.Tasks()
	split := fakelinux.NewBTF(f.Types)
	split.Struct("kvm", 24, fakelinux.M("id", 1, 8))
	code := f.Alloc(256)
	symtab := f.Alloc(24 * 4)
	symbol := func(i int, name uint32, info byte, section uint16, at, size uint64) {
		b := append(fakelinux.LE32(name), info, 0, byte(section), byte(section>>8))
		f.Put(symtab+uint64(24*i), append(append(b, fakelinux.LE64(at)...), fakelinux.LE64(size)...))
	}
	symbol(1, 1, 2, 7, code, 64)       // a function
	symbol(2, 5, 1, 8, code+64, 16)    // an object
	symbol(3, 13, 0x10, 0, code+32, 0) // undefined
	strtab := f.Alloc(32)
	f.Put(strtab, []byte("\x00run\x00vm_list\x00printk\x00"))
	sound := f.Alloc(24, 0, symtab, 8, 4, 16, strtab)
	huge := f.Alloc(24, 0, symtab, 8, 1<<31-1, 16, strtab)
	module := func(name string, symbols uint64) uint64 {
		at := f.Alloc(96, 72, symbols)
		f.Put(at+16, []byte(name))
		return at
	}
	bad, kvm := module("bad", huge), module("kvm", sound)
	list := func(head uint64, items ...uint64) {
		at := head
		for _, item := range items {
			f.Put(at, fakelinux.LE64(item))
			at = item
		}
		f.Put(at, fakelinux.LE64(head))
	}
	data := f.Alloc(len(split.Bytes()))
	f.Put(data, split.Bytes())
	btf := f.Alloc(40, 16, kvm, 24, f.Alloc(16, 0, data, 8, uint64(len(split.Bytes()))))
	list(f.Image("modules", make([]byte, 16)), bad, kvm)
	list(f.Image("btf_modules", make([]byte, 16)), btf)
	k := openFake(t, f, f.Finish())

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
