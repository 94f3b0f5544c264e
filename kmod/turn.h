/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A turn: an experiment on this processor in VMX operation, beside KVM.
 *
 * Why KVM is safe from us: the experiments run in a kernel thread on one
 * processor, with interrupts off, in three short turns. A task that runs a
 * virtual CPU is never that thread: before ours could run on this processor, the
 * scheduler called KVM's preempt notifier, which put the virtual CPU away
 * (kvm_sched_out()), and until interrupts are on again nothing can load it back.
 * Where KVM has a VMCS loaded outside of that, or changes VMX operation, it
 * holds preemption off. What is left of KVM in the processor is its current
 * VMCS, which is put back at the end of each turn: VMPTRLD neither clears
 * another VMCS nor changes its launch state.
 *
 * Why a crash is safe from us: an NMI may bring the crash path to this processor
 * at any point of a turn. With kvm_intel loaded that path VMCLEARs by address what
 * KVM has loaded, and executes VMXOFF if CR4.VMXE is set. Without kvm_intel only
 * kernels that have arch/x86/virt/hw.c do so: in others a panic on this
 * processor during one of the turns (some microseconds each, once) could not
 * start the capture kernel. So modprobe loads kvm_intel first (MODULE_SOFTDEP).
 */
#define NO_VMCS		(~0ULL)		/* what VMPTRST stores if none is current */
#define PT_TRACES	BIT(0)		/* of IA32_RTIT_CTL: TraceEn */
#define PT_WITH_VMX	BIT(14)		/* of IA32_VMX_MISC: VMXON leaves Intel PT on */
#define TRIES		10		/* to find VMX operation in order */

static u8 *vmxon_region __initdata;

/*
 * Only CR4.VMXE changes, and it is back before interrupts are on again. Nobody
 * sees the change, so the kernel's copy of CR4 need not have it. (The kernel's own
 * function is exported to KVM alone since v6.18.)
 */
static void __init write_cr4(unsigned long cr4)
{
	asm volatile("mov %0, %%cr4" : : "r" (cr4) : "memory");
}

/*
 * Whether VMXON would end an Intel PT trace unnoticed: it does so on processors
 * whose IA32_VMX_MISC has bit 14 clear.
 */
static bool __init vmxon_stops_trace(void)
{
	u32 misc, trace, hi;

	return boot_cpu_has(X86_FEATURE_INTEL_PT) &&
	       !rdmsr_safe(MSR_IA32_VMX_MISC, &misc, &hi) && !(misc & PT_WITH_VMX) &&
	       !rdmsr_safe(MSR_IA32_RTIT_CTL, &trace, &hi) && trace & PT_TRACES;
}

/* A turn in VMX operation, with interrupts off from begin to end. */
struct turn {
	unsigned long irqflags, cr4;
	u64 current_vmcs;	/* KVM's, or none */
	bool own;		/* VMX operation is ours */
};

/*
 * Enters VMX operation, unless KVM has entered it on this processor. If CR4.VMXE
 * is clear nobody is in VMX operation, and nobody enters it until interrupts are
 * on again: KVM does so by an interprocessor interrupt or from a task.
 */
static int __init begin(struct turn *t)
{
	int err;

	local_irq_save(t->irqflags);
	t->cr4 = __read_cr4();
	t->own = !(t->cr4 & X86_CR4_VMXE);
	if (t->own) {
		err = -EBUSY;
		if (vmxon_stops_trace())
			goto out;
		memset(vmxon_region, 0, PAGE_SIZE);
		*(u32 *)vmxon_region = revision;
		write_cr4(t->cr4 | X86_CR4_VMXE);
		err = vmx_on(__pa(vmxon_region));
		if (err) {
			write_cr4(t->cr4);
			goto out;
		}
	}
	err = vmcs_store(&t->current_vmcs);
	if (!err)
		return 0;
	if (t->own) {
		vmx_off();
		write_cr4(t->cr4);
	}
out:
	local_irq_restore(t->irqflags);
	return err;
}

static void __init end(struct turn *t)
{
	vmcs_clear(__pa(vmcs));
	if (t->own) {
		vmx_off();
		write_cr4(t->cr4);
	} else if (t->current_vmcs != NO_VMCS) {
		WARN_ON_ONCE(vmcs_load(t->current_vmcs));
	}
	local_irq_restore(t->irqflags);
}

/*
 * Runs an experiment in a turn of its own: some two hundred VMREADs or VMWRITEs, a
 * few microseconds on a processor. It tries again if VMX operation is half on: in
 * some kernels KVM can be preempted after it sets CR4.VMXE and before VMXON, or
 * after VMXOFF and before it clears CR4.VMXE.
 */
static int __init take_turn(int (*pass)(void))
{
	struct turn t;
	int err, tries = TRIES;

	while ((err = begin(&t)) && !t.own && --tries)
		usleep_range(100, 1000);
	if (err == -EBUSY)
		pr_info("Intel PT traces this processor: VMX operation would end the trace\n");
	if (!err) {
		err = pass();
		if (panic_in_turn)
			panic("vmcsinfo: within a turn, VMX operation is %s", t.own ? "its own" : "KVM's");
		end(&t);
	}
	if (err && err != -EBUSY)
		pr_info("VMX does not work here (%ps, %d): another hypervisor has the processor\n",
			pass, err);
	cond_resched();
	return err;
}
