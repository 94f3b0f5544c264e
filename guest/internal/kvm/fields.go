package kvm

import (
	"fmt"

	"vmcsnote/linux"
)

// fields is what is read of KVM's structures, and since when it is there.
type fields struct {
	machine struct {
		List     linux.Field `btf:"vm_list"`
		MM       linux.Field `btf:"mm"`
		PID      linux.Field `btf:"userspace_pid"`
		Memslots linux.Field `btf:"memslots"`
		Array    linux.Field `btf:"vcpu_array,optional"` // since 5.17
		VCPUs    linux.Field `btf:"vcpus,optional"`      // until 5.16
		Online   linux.Field `btf:"online_vcpus.counter"`
	}
	vcpu struct {
		ID        linux.Field `btf:"vcpu_id"`
		CPU       linux.Field `btf:"cpu"`
		Mode      linux.Field `btf:"mode"`
		Thread    linux.Field `btf:"pid->numbers[0].nr"`
		Preempted linux.Field `btf:"preempted"`
		Blocking  linux.Field `btf:"stat.generic.blocking,optional"` // since 5.15
		MPState   linux.Field `btf:"arch.mp_state"`
		Exit      linux.Field `btf:"run->exit_reason"`
		Running   linux.Field `btf:"wants_to_run,optional"` // since 6.10
		Regs      linux.Field `btf:"arch.regs"`
		RIP       linux.Field `btf:"arch.rip|arch.regs[16]"` // rip since 7.x
		Avail     linux.Field `btf:"arch.regs_avail"`
		Dirty     linux.Field `btf:"arch.regs_dirty"`
		CR0       linux.Field `btf:"arch.cr0"`
		CR2       linux.Field `btf:"arch.cr2"`
		CR3       linux.Field `btf:"arch.cr3"`
		CR4       linux.Field `btf:"arch.cr4"`
		CR8       linux.Field `btf:"arch.cr8"`
		EFER      linux.Field `btf:"arch.efer"`
		Root      linux.Field `btf:"arch.mmu->root.hpa|arch.mmu->root_hpa"`         // root since 5.18
		HostRoot  linux.Field `btf:"arch.root_mmu.root.hpa|arch.root_mmu.root_hpa"` // of the machine, not of its guests
	}
	slots struct {
		Tree  linux.Field `btf:"gfn_tree,optional"` // since 5.17
		Index linux.Field `btf:"node_idx,optional"`
		Array linux.Field `btf:"memslots,optional"` // until 5.16
		Used  linux.Field `btf:"used_slots,optional"`
	}
	slot struct {
		Base  linux.Field `btf:"base_gfn"`
		Pages linux.Field `btf:"npages"`
		HVA   linux.Field `btf:"userspace_addr"`
		Flags linux.Field `btf:"flags"`
		ID    linux.Field `btf:"id"`
	}
	nodes [2]linux.Field // a slot's place in the tree, by slots.Index
	vmx   struct {
		VCPU    linux.Field `btf:"vcpu"`
		Loaded  linux.Field `btf:"loaded_vmcs"`
		VMCS    linux.Field `btf:"loaded_vmcs->vmcs"`
		VMCS01  linux.Field `btf:"vmcs01.vmcs"`
		Shadow  linux.Field `btf:"vmcs01.shadow_vmcs"`
		In02    linux.Field `btf:"nested.vmcs02"`
		VMCS02  linux.Field `btf:"nested.vmcs02.vmcs"`
		Cached  linux.Field `btf:"nested.cached_vmcs12"`
		Current linux.Field `btf:"nested.current_vmptr"`
	}
	svm struct {
		VCPU    linux.Field `btf:"vcpu"`
		Current linux.Field `btf:"current_vmcb"`
		VMCB    linux.Field `btf:"current_vmcb->pa"`
		VMCB01  linux.Field `btf:"vmcb01.pa"`
		In02    linux.Field `btf:"nested.vmcb02"`
		VMCB02  linux.Field `btf:"nested.vmcb02.pa"`
		VMCB12  linux.Field `btf:"nested.vmcb12_gpa"`
	}
}

// resolve binds the fields of the structs that every KVM has.
func (f *fields) resolve(s scope) error {
	for _, b := range []struct {
		name string
		to   any
	}{{"kvm", &f.machine}, {"kvm_vcpu", &f.vcpu}, {"kvm_memslots", &f.slots}, {"kvm_memory_slot", &f.slot}} {
		t, err := s.Struct(b.name)
		if err == nil {
			err = t.Bind(b.to)
		}
		if err != nil {
			return err
		}
		if b.name != "kvm_memory_slot" || !f.slots.Tree.Valid() {
			continue
		}
		for i := range f.nodes {
			if f.nodes[i], err = t.Field(fmt.Sprintf("gfn_node[%d]", i)); err != nil {
				return err
			}
		}
	}
	return nil
}
