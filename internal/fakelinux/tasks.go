package fakelinux

// Tasks adds the structs that tasks and modules need, much smaller than
// Linux's.
func (b *BTF) Tasks() {
	i32, u64, char := b.Int("int", 4, true), b.Int("unsigned long", 8, false), b.Int("char", 1, true)
	text, void := b.Ptr(char), b.Ptr(0)
	list := b.Struct("list_head", 16, M("next", void, 0), M("prev", void, 8))
	kernfs := b.N + 2 // it points to itself
	b.Ptr(kernfs)
	b.Struct("kernfs_node", 16, M("name", text, 0), M("__parent", kernfs-1, 8))
	cgroup := b.Struct("cgroup", 8, M("kn", kernfs-1, 0))
	css := b.Struct("cgroup_subsys_state", 8, M("cgroup", b.Ptr(cgroup), 0))
	set := b.Struct("css_set", 32, M("dfl_cgrp", b.Ptr(cgroup), 0), M("subsys", b.Array(b.Ptr(css), 3), 8))
	signal := b.Struct("signal_struct", 16, M("thread_head", list, 0))
	b.Struct("task_struct", 128, M("pid", i32, 0), M("tgid", i32, 4), M("comm", b.Array(char, 16), 8),
		M("mm", void, 24), M("cpu", i32, 32), M("tasks", list, 40), M("signal", b.Ptr(signal), 56),
		M("thread_node", list, 64), M("cgroups", b.Ptr(set), 80), M("group_leader", void, 88))
	b.Struct("mm_struct", 32, M("pgd", void, 0), M("owner", void, 8), M("arg_start", u64, 16), M("arg_end", u64, 24))
	symbols := b.Struct("mod_kallsyms", 24, M("symtab", void, 0), M("num_symtab", i32, 8), M("strtab", text, 16))
	b.Struct("module", 96, M("list", list, 0), M("name", b.Array(char, 56), 16), M("kallsyms", b.Ptr(symbols), 72))
	btf := b.Struct("btf", 16, M("data", void, 0), M("data_size", i32, 8))
	b.Struct("btf_module", 40, M("list", list, 0), M("module", void, 16), M("btf", b.Ptr(btf), 24))
}

// Text adds a string to the direct map.
func (f *Kernel) Text(s string) uint64 {
	at := f.Alloc(len(s) + 1)
	f.Put(at, []byte(s))
	return at
}

// Cgroup adds a cgroup with the names on its path.
func (f *Kernel) Cgroup(names ...string) uint64 {
	node := f.Alloc(16, 0, f.Text(""))
	for _, name := range names {
		node = f.Alloc(16, 0, f.Text(name), 8, node)
	}
	return f.Alloc(8, 0, node)
}

// Process adds a task whose command line is args, and returns it.
func (f *Kernel) Process(pid uint32, comm string, args string, cgroups uint64) uint64 {
	// Its only user page is 0x7000000ff000: entries 224, 0, 0, 255.
	page := (f.Heap + 4095) &^ 4095
	f.Heap = page + 5*4096
	entry := func(table int, index, value uint64) {
		f.Put(page+uint64(table)*4096+8*index, LE64(value))
	}
	phys := func(table int) uint64 { return page - Direct + uint64(table)*4096 }
	for i := range 5 {
		f.Put(page+uint64(i)*4096, make([]byte, 4096))
	}
	entry(0, 224, phys(1)|7)
	entry(1, 0, phys(2)|7)
	entry(2, 0, phys(3)|7)
	entry(3, 255, phys(4)|7)
	entry(3, 256, ^phys(4)&(1<<52-4096)|1<<8) // PROT_NONE
	entry(3, 257, 0xfffff00000000f2)          // swapped out
	f.Put(page+4*4096+0x10, []byte(args))
	mm := f.Alloc(32, 0, page, 16, 0x7000000ff010, 24, 0x7000000ff010+uint64(len(args)))
	signal := f.Alloc(16)
	task := f.Alloc(128, 24, mm, 56, signal, 80, cgroups)
	f.Put(task, append(LE32(pid), LE32(pid)...))
	f.Put(task+8, []byte(comm))
	f.Put(task+32, LE32(3))
	f.Put(signal, LE64(task+64))
	f.Put(task+64, LE64(signal))
	f.Put(mm+8, LE64(task))
	return task
}
