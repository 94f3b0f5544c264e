// Package linux reads a Linux kernel in somebody's memory: that of a host in
// its dump, or that of a guest in its host's. x86-64 only.
//
// [Open] takes memory by physical address and the text of VMCOREINFO. The
// [Kernel] it returns knows three things that lead to everything else, and
// needs no debug information for them:
//
//   - Addresses. The kernel's image lies at phys_base, everything else is
//     mapped by the page tables at swapper_pg_dir ([Kernel.Read]).
//   - Symbols, by kallsyms: of the image ([Kernel.Symbol], [Kernel.SymbolAt])
//     and of modules ([Module.Symbol]). VMCOREINFO names the tables since Linux
//     6.0. In older kernels they are found in the image, because they agree
//     with each other.
//   - Types, by BTF, of vmlinux ([Kernel.Struct]) and of modules since Linux
//     5.11 ([Module.Struct]).
//
// A [Field] is a member of a struct, by a path that may follow pointers. It is
// resolved once, then read from many objects. Members move, and some change
// their names between versions, so a path has alternatives.
//
// [Kernel.List], [Kernel.RBTree] and [Kernel.XArray] go through the kernel's
// containers. [Kernel.Tasks] and [Task] are built on these.
//
// [Kernel.Log], [Kernel.LastLog] and [Kernel.Panic] read the kernel's log. They
// need no types and no symbols if VMCOREINFO is that of the running kernel.
//
// # Hostile memory
//
// Nothing that is read is trusted. Every loop has a bound, tables have a
// maximum size, a loop in a list ends it with an error, and no memory is
// allocated because the dump says so beyond the maximum of a table. Nothing is
// read before it is needed: Open itself reads no memory.
//
// # Why not cilium/ebpf/btf
//
// It was measured (v0.22.0, on the BTF of Debian's 6.12 and its kvm modules).
// It adds 569 KB to a binary of 4.9 MB, and takes 150 ms to load and 330 ms to
// inflate task_struct and vcpu_vmx, with a peak of 26 MiB. But it follows types
// recursively: BTF of 4.8 MB that holds a chain of 400,000 const types ends the
// process with a stack overflow, which Go cannot recover from. A dump must not
// do that. The reader here follows types in a loop, and only those that a path
// names. All of this package adds 131 KB; a program that lists a host's
// machines by it has a peak of 30 MiB.
package linux
