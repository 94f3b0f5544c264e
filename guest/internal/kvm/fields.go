package kvm

import "vmcsnote/linux"

// fields are the members of KVM's structures that this package reads, with the
// versions of Linux that have them.
type fields struct {
	machine struct {
		List     linux.Field `btf:"vm_list"`
		MM       linux.Field `btf:"mm"`
		PID      linux.Field `btf:"userspace_pid"`
		Memslots linux.Field `btf:"memslots"`
		Array    linux.Field `btf:"vcpu_array,optional"`   // since 5.17
		VCPUs    linux.Field `btf:"vcpus,optional"`        // until 5.16
		Type     linux.Field `btf:"arch.vm_type,optional"` // since 6.8
	}
	vcpu struct {
		ID        linux.Field `btf:"vcpu_id"`
		CPU       linux.Field `btf:"cpu"`
		Mode      linux.Field `btf:"mode"`
		PID       linux.Field `btf:"pid"`
		Thread    linux.Field `btf:"pid->numbers[0].nr"`
		Preempted linux.Field `btf:"preempted"`
		Blocking  linux.Field `btf:"stat.generic.blocking,optional"` // since 5.15
		MPState   linux.Field `btf:"arch.mp_state"`
		Running   linux.Field `btf:"wants_to_run,optional"` // since 6.11, and in stable releases of older ones
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
		HFlags    linux.Field `btf:"arch.hflags,optional"`
		APIC      linux.Field `btf:"arch.apic->regs,optional"`
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
		// The slot's place in the tree, by slots.Index.
		Node0 linux.Field `btf:"gfn_node[0],optional"`
		Node1 linux.Field `btf:"gfn_node[1],optional"`
	}
	// Of a vendor's structures only the place of the kvm_vcpu must be known:
	// machines, their names and KVM's copies of registers need nothing else.
	vmx struct {
		VCPU    linux.Field `btf:"vcpu"`
		Loaded  linux.Field `btf:"loaded_vmcs,optional"`
		VMCS    linux.Field `btf:"loaded_vmcs->vmcs,optional"`
		VMCS01  linux.Field `btf:"vmcs01.vmcs,optional"`
		Shadow  linux.Field `btf:"vmcs01.shadow_vmcs,optional"`
		In02    linux.Field `btf:"nested.vmcs02,optional"`
		VMCS02  linux.Field `btf:"nested.vmcs02.vmcs,optional"`
		Cached  linux.Field `btf:"nested.cached_vmcs12,optional"`
		Current linux.Field `btf:"nested.current_vmptr,optional"`
		// While the guest's state is in the processor GSBase may be old.
		GSBase linux.Field `btf:"msr_guest_kernel_gs_base,optional"`
		Inside linux.Field `btf:"vt.guest_state_loaded|guest_state_loaded,optional"` // vt since 6.16
	}
	// written is what KVM keeps of what it wrote to the VMCS, or read from it, in
	// the order of Written.Values; then the parts of a segment.
	written struct {
		HostCR3      linux.Field `btf:"loaded_vmcs->host_state.cr3,optional"`
		HostCR4      linux.Field `btf:"loaded_vmcs->host_state.cr4,optional"`
		HostFSBase   linux.Field `btf:"loaded_vmcs->host_state.fs_base,optional"`
		HostGSBase   linux.Field `btf:"loaded_vmcs->host_state.gs_base,optional"`
		HostRSP      linux.Field `btf:"loaded_vmcs->host_state.rsp,optional"`
		Pin          linux.Field `btf:"loaded_vmcs->controls_shadow.pin,optional"`
		Exec         linux.Field `btf:"loaded_vmcs->controls_shadow.exec,optional"`
		Secondary    linux.Field `btf:"loaded_vmcs->controls_shadow.secondary_exec,optional"`
		Tertiary     linux.Field `btf:"loaded_vmcs->controls_shadow.tertiary_exec,optional"` // since 6.0
		Entry        linux.Field `btf:"loaded_vmcs->controls_shadow.vm_entry,optional"`
		Exit         linux.Field `btf:"loaded_vmcs->controls_shadow.vm_exit,optional"`
		VPID         linux.Field `btf:"vpid,optional"`
		TSCOffset    linux.Field `btf:"vcpu.arch.tsc_offset,optional"`
		TSCRatio     linux.Field `btf:"vcpu.arch.tsc_scaling_ratio,optional"`
		CR0Owned     linux.Field `btf:"vcpu.arch.cr0_guest_owned_bits,optional"`
		CR4Owned     linux.Field `btf:"vcpu.arch.cr4_guest_owned_bits,optional"`
		PAT          linux.Field `btf:"vcpu.arch.pat,optional"`
		Root         linux.Field `btf:"vcpu.arch.mmu->root.hpa|vcpu.arch.mmu->root_hpa,optional"` // root since 5.18
		RFLAGS       linux.Field `btf:"rflags,optional"`
		VM86         linux.Field `btf:"rmode.vm86_active,optional"`
		ExitReason   linux.Field `btf:"vt.exit_reason.full|exit_reason.full|exit_reason,optional"` // vt since 6.16, full since 5.12
		IntrInfo     linux.Field `btf:"vt.exit_intr_info|exit_intr_info,optional"`
		Qualified    linux.Field `btf:"vt.exit_qualification|exit_qualification,optional"`
		IDTVectoring linux.Field `btf:"idt_vectoring_info,optional"`
		Cached       linux.Field `btf:"segment_cache.bitmask,optional"`
		MSRBitmap    linux.Field `btf:"loaded_vmcs->msr_bitmap,optional"`
		VirtualAPIC  linux.Field `btf:"vcpu.arch.apic->regs,optional"`
		EntryLoad    linux.Field `btf:"msr_autoload.guest.val,optional"`
		ExitLoad     linux.Field `btf:"msr_autoload.host.val,optional"`
		Posted       linux.Field `btf:"vt.pi_desc|pi_desc,optional"`
		Selector     linux.Field `btf:"segment_cache.seg[0].selector,optional"`
		Base         linux.Field `btf:"segment_cache.seg[0].base,optional"`
		Limit        linux.Field `btf:"segment_cache.seg[0].limit,optional"`
		Rights       linux.Field `btf:"segment_cache.seg[0].ar,optional"`
		Segments     linux.Field `btf:"segment_cache.seg,optional"`
	}
	ops struct { // for a KVM that is built in
		Create linux.Field `btf:"vcpu_create"`
	}
	svm struct {
		VCPU    linux.Field `btf:"vcpu"`
		Current linux.Field `btf:"current_vmcb,optional"`
		VMCB    linux.Field `btf:"current_vmcb->pa,optional"`
		VMCB01  linux.Field `btf:"vmcb01.pa,optional"`
		In02    linux.Field `btf:"nested.vmcb02,optional"`
		VMCB02  linux.Field `btf:"nested.vmcb02.pa,optional"`
		VMCB12  linux.Field `btf:"nested.vmcb12_gpa,optional"`
		// Of the machine's guest, as the machine has them; misc_ctl since 7.x.
		Paging12 linux.Field `btf:"nested.ctl.nested_ctl|nested.ctl.misc_ctl,optional"`
		CR312    linux.Field `btf:"nested.ctl.nested_cr3,optional"`
	}
	amdMachine struct {
		Machine  linux.Field `btf:"kvm"`
		Features linux.Field `btf:"sev_info.vmsa_features,optional"` // since 6.10
	}
}

// bindings returns the bindings of the structs that every KVM has.
func (f *fields) bindings() []linux.Binding {
	return []linux.Binding{
		{Module: "kvm", Struct: "kvm", Fields: &f.machine},
		{Module: "kvm", Struct: "kvm_vcpu", Fields: &f.vcpu},
		{Module: "kvm", Struct: "kvm_memslots", Fields: &f.slots},
		{Module: "kvm", Struct: "kvm_memory_slot", Fields: &f.slot},
	}
}

func (f *fields) intel() linux.Binding {
	return linux.Binding{Module: "kvm_intel", Struct: "vcpu_vmx", Fields: &f.vmx}
}

func (f *fields) ofVMCS() linux.Binding {
	return linux.Binding{Module: "kvm_intel", Struct: "vcpu_vmx", Fields: &f.written}
}

func (f *fields) amd() linux.Binding {
	return linux.Binding{Module: "kvm_amd", Struct: "vcpu_svm", Fields: &f.svm}
}

// ofMachine binds kvm_svm, which contains a struct kvm.
func (f *fields) ofMachine() linux.Binding {
	return linux.Binding{Module: "kvm_amd", Struct: "kvm_svm", Fields: &f.amdMachine}
}

func (f *fields) builtIn() linux.Binding {
	return linux.Binding{Module: "kvm", Struct: "kvm_x86_ops", Fields: &f.ops}
}

// Bindings returns what this package itself reads of a kernel: package linux
// has bindings of its own.
func Bindings() []linux.Binding {
	f := new(fields)
	return append(f.bindings(), f.intel(), f.ofVMCS(), f.amd(), f.ofMachine(), f.builtIn())
}

// bind binds the fields of a struct that s has.
func bind(s scope, b linux.Binding) error {
	t, err := s.Struct(b.Struct)
	if err != nil {
		return err
	}
	return t.Bind(b.Fields)
}
