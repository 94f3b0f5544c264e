package crowd

import "fmt"

// RIP returns the RIP of the vCPU that a thread runs.
func RIP(tid int) uint64 { return 0xffffffff81000000 + uint64(tid) }

// Machine adds a machine with its process and threads, and returns its struct
// kvm. The thread of vCPU i is pid+1+i.
func (h *Host) Machine(pid, vcpus, slots int, like Model) Object {
	process := h.Object("task_struct").Set("tgid", uint64(pid)).Set("pid", uint64(pid)).Set("cgroups", like.cgroups)
	mm := h.Object("mm_struct").Set("owner", process.Addr).Set("pgd", like.pgd)
	signal := h.Object("signal_struct")
	process.Set("mm", mm.Addr).Set("signal", signal.Addr)
	threads := []uint64{process.At("thread_node")}
	set := h.Object("kvm_memslots")
	m := h.Object("kvm").Set("mm", mm.Addr).Set("userspace_pid", uint64(pid)).Set("memslots[0]", set.Addr)
	set.Set("gfn_tree.rb_node", tree(h.slots(slots)))

	node := h.Object("xa_node")
	m.Set("vcpu_array.xa_head", node.Addr|2)
	for i := range vcpus {
		tid := uint64(pid + 1 + i)
		thread := h.Object("task_struct").Set("tgid", uint64(pid)).Set("pid", tid).Set("signal", signal.Addr).Set("cgroups", like.cgroups).Set("mm", mm.Addr)
		threads = append(threads, thread.At("thread_node"))
		id := h.Object("pid").Set("numbers[0].nr", tid)
		vcpu := h.Object("vcpu_svm")
		vcpu.Set("vcpu.vcpu_id", uint64(i)).Set("vcpu.pid", id.Addr).Set("vcpu.arch.regs[16]", RIP(int(tid))).Set("vcpu.mode", 1).
			Set("vmcb01.pa", h.vmcb(tid)).Set("current_vmcb", vcpu.At("vmcb01"))
		node.Set(fmt.Sprintf("slots[%d]", i), vcpu.At("vcpu"))
	}
	h.ring(signal.At("thread_head"), threads...)
	return m
}

// slots adds memory slots of 4 MiB.
func (h *Host) slots(n int) []Object {
	all := make([]Object, n)
	for i := range all {
		all[i] = h.Object("kvm_memory_slot").Set("base_gfn", uint64(i)<<10).Set("npages", 1<<10).Set("id", uint64(i)).
			Set("userspace_addr", 0x7f0000000000+uint64(i)<<30)
	}
	return all
}

// tree makes a balanced tree of slots, and returns its root.
func tree(all []Object) uint64 {
	if len(all) == 0 {
		return 0
	}
	mid := len(all) / 2
	all[mid].Set("gfn_node[0].rb_left", tree(all[:mid])).Set("gfn_node[0].rb_right", tree(all[mid+1:]))
	return all[mid].At("gfn_node[0]")
}

// NoVMCB returns the address of a thread's VMCB if Host.VMCB is nil.
func NoVMCB(tid int) uint64 { return 0x2000 * uint64(tid) }

// vmcb adds a VMCB and returns its physical address.
func (h *Host) vmcb(tid uint64) uint64 {
	if h.VMCB == nil {
		return NoVMCB(int(tid))
	}
	at := h.alloc(pageSize, pageSize) - h.Base + phys
	page := new([pageSize]byte)
	copy(page[:], h.VMCB)
	h.pages[at] = page
	return at
}
