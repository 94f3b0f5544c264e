// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmcsinfo - publish where the fields of a VMCS lie
 *
 * A VMCS is the page in which an Intel processor keeps the state of a virtual
 * CPU. Where its fields lie in the page is not documented and differs between
 * processors, so nobody can read the guests' registers out of a host's crash
 * dump. This module finds it out by experiment on the processor it runs on, and
 * keeps the result as an ELF note VMCSINFO in memory, where kdump saves it.
 * /sys/kernel/vmcsinfo says where: "ADDRESS SIZE\n", both hexadecimal, as
 * /sys/kernel/vmcoreinfo does for VMCOREINFO. The interface and the note are
 * those of the kernel patches "Export offsets of VMCS fields as note
 * information for kdump" (April 2012).
 *
 * Two experiments locate the fields, on a VMCS page of our own (locate.h):
 *
 *   read:   fill the page with 16-bit cells that each encode their own offset;
 *           what VMREAD returns then says where it was read from.
 *   write:  VMWRITE a marker to every field, then VMCLEAR, which flushes the VMCS
 *           to its page; over a background of zeros and one of ones.
 *
 * A field is published if its marker is where VMREAD read, over both backgrounds,
 * or by VMREAD alone if the processor does not let it be written. Access rights of
 * segments may be stored shifted, or packed in 16 bits: they lie where VMREAD and
 * the markers agree on one of these forms.
 *
 * Why KVM is safe from us. The experiments run in a kernel thread on one
 * processor, with interrupts off, in three short turns. A task that runs a
 * virtual CPU is never that thread: before ours could run on this processor, the
 * scheduler called KVM's preempt notifier, which put the virtual CPU away
 * (kvm_sched_out()), and until interrupts are on again nothing can load it back.
 * Where KVM has a VMCS loaded outside of that, or changes VMX operation, it
 * holds preemption off. What is left of KVM in the processor is its current
 * VMCS, which is put back at the end of each turn: VMPTRLD neither clears
 * another VMCS nor changes its launch state.
 *
 * Why a crash is safe from us. An NMI may bring the crash path to this processor
 * at any point of a turn. With kvm_intel loaded that path VMCLEARs by address what
 * KVM has loaded, and executes VMXOFF if CR4.VMXE is set. Without kvm_intel only
 * kernels that have arch/x86/virt/hw.c do so: in others a panic on this very
 * processor during one of the turns (some microseconds each, once) could not
 * start the capture kernel. So modprobe loads kvm_intel first (MODULE_SOFTDEP).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/crash_dump.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/elf.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <asm/asm.h>
#include <asm/cpufeature.h>
#include <asm/hypervisor.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/vmx.h>

#ifndef CONFIG_X86_64
#error "a 64-bit kernel is needed: fields are read by one VMREAD"
#endif

#ifndef MSR_IA32_FEAT_CTL	/* named so since v5.6 */
#define MSR_IA32_FEAT_CTL			MSR_IA32_FEATURE_CONTROL
#define FEAT_CTL_LOCKED				FEATURE_CONTROL_LOCKED
#define FEAT_CTL_VMX_ENABLED_INSIDE_SMX		FEATURE_CONTROL_VMXON_ENABLED_INSIDE_SMX
#define FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX	FEATURE_CONTROL_VMXON_ENABLED_OUTSIDE_SMX
#endif

static bool cells;
module_param(cells, bool, 0444);
MODULE_PARM_DESC(cells, "publish the values that VMREAD gave, as in 2012, instead of offsets");

static bool debug;
module_param(debug, bool, 0444);
MODULE_PARM_DESC(debug, "keep what the experiments saw in debugfs, in vmcsinfo/probe");

#ifdef VMCSINFO_TEST	/* make VMCSINFO_TEST=y, for scripts/e2e-vmx */
static bool panic_in_turn;
module_param(panic_in_turn, bool, 0);
#else
#define panic_in_turn false
#endif

#define NOTE_NAME	"VMCSINFO"
#define NO_VMCS		(~0ULL)		/* what VMPTRST gives where none is current */
#define VMCS_SHADOW	BIT(31)		/* of the first word: a shadow VMCS */
#define PT_TRACES	BIT(0)		/* of IA32_RTIT_CTL: TraceEn */
#define PT_WITH_VMX	BIT(14)		/* of IA32_VMX_MISC: VMXON leaves Intel PT on */
#define CPUID_VMX	BIT(5)		/* of CPUID.1:ECX */
#define CPUID_HYBRID	0x1a		/* leaf: EAX[31:24] is the type of the core */
#define TRIES		10		/* to find VMX operation in order */
#define VMCS_SIZE	GENMASK(12, 0)	/* of the upper half of IA32_VMX_BASIC */

static u8 *vmxon_region __initdata;
static unsigned int probed_cpu __initdata;
static const char *core_type __initdata;	/* of that one, or NULL */

static char *note;	/* the buffer that is published */
static size_t note_size;

static struct debugfs_blob_wrapper probe_blob;	/* what the experiments saw, if it is kept */
static struct dentry *probe_dir;

/* ------------------------------------------------------------------ VMX -- */

/*
 * An instruction that takes the physical address of a VMX page: 0, -EIO for
 * VMfail, -EFAULT for a fault. On a kernel with preemption CR4.VMXE can be set a
 * moment before KVM has executed VMXON.
 */
#define VMX_PAGE(insn, page)						\
({									\
	u64 _pa = (page);						\
	int _err = -EFAULT;						\
									\
	asm volatile("1:	" insn " %[pa]\n"			\
		     "	mov	$0, %[err]\n"				\
		     "	ja	2f\n"					\
		     "	mov	%[eio], %[err]\n"			\
		     "2:\n"						\
		     _ASM_EXTABLE(1b, 2b)				\
		     : [err] "+r" (_err)				\
		     : [pa] "m" (_pa), [eio] "i" (-EIO)			\
		     : "cc", "memory");					\
	_err;								\
})

static int __init vmx_on(u64 pa)
{
	return VMX_PAGE("vmxon", pa);
}

static int __init vmcs_clear(u64 pa)
{
	return VMX_PAGE("vmclear", pa);
}

static int __init vmcs_load(u64 pa)
{
	return VMX_PAGE("vmptrld", pa);
}

static int __init vmcs_store(u64 *pa)
{
	int err = -EFAULT;

	asm volatile("1:	vmptrst	%[pa]\n"
		     "	mov	$0, %[err]\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : [err] "+r" (err), [pa] "=m" (*pa) : : "cc", "memory");
	return err;
}

static void __init vmx_off(void)
{
	asm volatile("1:	vmxoff\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
}

static int __init vmcs_read(unsigned long encoding, u64 *value)
{
	int err = 0;
	u64 v = 0;

	asm volatile("	vmread	%[encoding], %[v]\n"
		     "	ja	1f\n"
		     "	mov	%[eio], %[err]\n"
		     "1:\n"
		     : [err] "+r" (err), [v] "+r" (v)
		     : [encoding] "r" (encoding), [eio] "i" (-EIO)
		     : "cc", "memory");
	*value = v;
	return err;
}

static int __init vmcs_write(unsigned long encoding, u64 value)
{
	int err = 0;

	asm volatile("	vmwrite	%[value], %[encoding]\n"
		     "	ja	1f\n"
		     "	mov	%[eio], %[err]\n"
		     "1:\n"
		     : [err] "+r" (err)
		     : [encoding] "r" (encoding), [value] "r" (value), [eio] "i" (-EIO)
		     : "cc", "memory");
	return err;
}

#include "locate.h"
#include "probe.h"

/*
 * CR4.VMXE alone changes, and is back before interrupts are on again: nobody
 * sees it, so the kernel's copy of CR4 need not know. (Its own function for
 * this is for KVM alone since v6.18.)
 */
static void __init write_cr4(unsigned long cr4)
{
	asm volatile("mov %0, %%cr4" : : "r" (cr4) : "memory");
}

/*
 * On processors whose IA32_VMX_MISC has bit 14 clear VMXON ends what Intel PT
 * traces, and says so to nobody.
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
 * Enters VMX operation, unless KVM did that on this processor. Where CR4.VMXE
 * is clear nobody else can be in it, and until interrupts are on again nobody
 * will: KVM enters by an interprocessor interrupt or from a task.
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
 * What the processor can do and is, even if the kernel has switched it off. The
 * header of the kernel's own function for this differs between kernels.
 */
static void __init cpuid_of(u32 leaf, u32 *eax, u32 *ecx)
{
	u32 ebx, edx;

	*eax = leaf;
	*ecx = 0;
	asm volatile("cpuid" : "+a" (*eax), "=b" (ebx), "+c" (*ecx), "=d" (edx));
}

/* The type of this CPU, if the processor has two: for who compares layouts. */
static const char * __init type_of_core(void)
{
#ifdef X86_FEATURE_HYBRID_CPU
	u32 eax, ecx;

	if (boot_cpu_has(X86_FEATURE_HYBRID_CPU)) {
		cpuid_of(CPUID_HYBRID, &eax, &ecx);
		switch (eax >> 24) {
		case 0x20:
			return "atom";
		case 0x40:
			return "core";
		}
	}
#endif
	return NULL;
}

/*
 * Notes whether this processor's VMCSs have another revision than those that are
 * probed.
 */
static void __init compare_revision(void *differs)
{
	u32 lo, hi;

	if (rdmsr_safe(MSR_IA32_VMX_BASIC, &lo, &hi) || (lo & ~VMCS_SHADOW) != revision)
		WRITE_ONCE(*(bool *)differs, true);
}

/* Whether this processor lets VMX be used: tells why not, or returns 0. */
static int __init enabled(void)
{
	bool differs = false;
	u32 lo, hi;

	if (rdmsr_safe(MSR_IA32_FEAT_CTL, &lo, &hi) ||
	    rdmsr_safe(MSR_IA32_VMX_BASIC, &revision, &hi)) {
		pr_info("the hypervisor keeps VMX to itself\n");
		return -ENODEV;
	}
	revision &= ~VMCS_SHADOW;
	if (hi & VMCS_SIZE)
		vmcs_size = min_t(unsigned int, hi & VMCS_SIZE, PAGE_SIZE);
	if (!(lo & FEAT_CTL_LOCKED) ||
	    !(lo & (FEAT_CTL_VMX_ENABLED_INSIDE_SMX | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX))) {
		pr_info("VMX is %s by the firmware (IA32_FEATURE_CONTROL is %#x)\n",
			lo & FEAT_CTL_LOCKED ? "locked off" : "not enabled", lo);
		return -ENODEV;
	}
	if (!boot_cpu_has(X86_FEATURE_VMX)) {
		pr_info("VMX is switched off in this kernel\n");
		return -ENODEV;
	}
	on_each_cpu(compare_revision, &differs, 1);
	if (differs) {	/* KVM refuses such a host, too */
		pr_info("the processors' VMCSs have different revisions\n");
		return -ENODEV;
	}
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR))
		pr_notice("this is a virtual machine: the layout found is its hypervisor's, not the processor's\n");
	return 0;
}

/*
 * Runs an experiment, in a turn of its own: some two hundred VMREADs or VMWRITEs, a
 * few microseconds on a processor. Between CR4.VMXE and VMXON, or VMXOFF and
 * CR4.VMXE, KVM can be preempted in some kernels: it needs a moment more.
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

/* Fields that were located. */
static unsigned int __init located(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		n += places[i].offset >= 0;
	return n;
}

static long __init probe(void *unused)
{
	int err = enabled();

	core_type = type_of_core();
	err = err ?: take_turn(read_pass);
	err = err ?: take_turn(write_zeros);
	err = err ?: take_turn(write_ones);
	if (err)
		return -ENODEV;
	locate_all();
	if (debug || !located())
		while (!err && next_alone <= ARRAY_SIZE(fields))
			err = take_turn(write_alone);
	return 0;
}

/* ----------------------------------------------------------------- note -- */

/* How this processor stores access rights: the same for all segments. */
static enum rights __init rights(void)
{
	enum rights r = UNKNOWN;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!is_rights(&fields[i]) || !places[i].rights)
			continue;
		if (r && r != places[i].rights)
			return UNKNOWN;
		r = places[i].rights;
	}
	return r;
}

#define emit(...) (len += snprintf(buf ? buf + len : NULL, buf ? size - len : 0, __VA_ARGS__))

/* Writes what the layout depends on to buf, and returns its length as snprintf() does. */
static size_t __init write_processor(char *buf, size_t size)
{
	const struct cpuinfo_x86 *c = &cpu_data(probed_cpu);
	size_t len = 0;

	emit("CPU_VENDOR=%s\nCPU_FAMILY=%x\nCPU_MODEL=%x\nCPU_STEPPING=%x\nCPU_MICROCODE=%x\n",
	     c->x86_vendor_id, c->x86, c->x86_model, c->x86_stepping, c->microcode);
	if (core_type)
		emit("CPU_TYPE=%s\n", core_type);
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR))
		emit("HYPERVISOR=1\n");
	return len;
}

/* Writes the note's text likewise. */
static size_t __init write_text(char *buf, size_t size)
{
	size_t len = 0;
	unsigned int i;

	emit("REVISION_ID=%x\n", revision);
	emit("FORM=%s\n", cells ? "cells" : "offsets");
	if (rights() != UNKNOWN)
		emit("ACCESS_RIGHTS=%s\n", rights_names[rights()]);
	len += write_processor(buf ? buf + len : NULL, buf ? size - len : 0);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (places[i].offset < 0)
			continue;
		if (cells)
			emit("FIELD(%s)=%0*llx\n", fields[i].name,
			     2 * width(&fields[i]), places[i].value);
		else
			emit("FIELD(%s)=%x\n", fields[i].name, places[i].offset);
	}
	return len;
}

/*
 * Makes the note, in whole pages of the kernel's own: makedumpfile keeps those
 * at every dump level.
 */
static int __init make_note(void)
{
	size_t head = sizeof(struct elf64_note) + ALIGN(sizeof(NOTE_NAME), 4);
	size_t len = write_text(NULL, 0);
	struct elf64_note *n;

	note_size = PAGE_SIZE << get_order(head + len + 1);
	note = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(note_size));
	if (!note)
		return -ENOMEM;
	n = (struct elf64_note *)note;
	n->n_namesz = sizeof(NOTE_NAME);
	n->n_type = 0;
	memcpy(n + 1, NOTE_NAME, sizeof(NOTE_NAME));
	n->n_descsz = write_text(note + head, note_size - head);
	return 0;
}

static void free_note(void)
{
	memzero_explicit(note, note_size);	/* nobody shall find it in a free page */
	free_pages((unsigned long)note, get_order(note_size));
}

static ssize_t vmcsinfo_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sprintf(buf, "%llx %zx\n", (u64)__pa(note), note_size);
}

static struct kobj_attribute vmcsinfo_attr =
	__ATTR(vmcsinfo, 0400, vmcsinfo_show, NULL);

/* --------------------------------------------------------------- debugfs -- */

/* Writes the facts of the file to buf: what the processor is and can do. */
static size_t __init write_facts(char *buf, size_t size)
{
	static const struct { u32 msr; const char *name; } msrs[] __initconst = {
		{ MSR_IA32_VMX_BASIC, "IA32_VMX_BASIC" },
		{ MSR_IA32_VMX_MISC, "IA32_VMX_MISC" },
		{ MSR_IA32_VMX_PROCBASED_CTLS2, "IA32_VMX_PROCBASED_CTLS2" },
	};
	size_t len = 0;
	unsigned int i;
	u32 lo, hi;

	emit("REVISION_ID=%x\n", revision);
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (!rdmsr_safe(msrs[i].msr, &lo, &hi))	/* KVM requires all CPUs to have the same */
			emit("%s=%x%08x\n", msrs[i].name, hi, lo);
	emit("DIFFS=%x\n", n_diffs);
	return len + write_processor(buf ? buf + len : NULL, buf ? size - len : 0);
}

/*
 * Makes the file that tells why fields were not located. Without
 * debugfs there is none.
 */
static void __init keep_probe(void)
{
	static char facts[PROBE_FACTS] __initdata;

	probe_blob.data = vzalloc(PROBE_MAX);
	if (!probe_blob.data)
		return;
	write_facts(facts, sizeof(facts));
	probe_blob.size = write_probe(probe_blob.data, facts);
	probe_dir = debugfs_create_dir("vmcsinfo", NULL);
	debugfs_create_blob("probe", 0400, probe_dir, &probe_blob);
}

#undef emit

/* ---------------------------------------------------------------- module -- */

/*
 * Tells why nothing shall be found out here, or returns 0. None of these is a
 * fault of the host, so all are -ENODEV, which systemd-modules-load does not take
 * for a failure.
 */
static int __init refuse(void)
{
	struct kernfs_node *there = kernfs_find_and_get(kernel_kobj->sd, "vmcsinfo");
	const char *why = NULL;
	u32 eax, ecx;

	kernfs_put(there);
	cpuid_of(1, &eax, &ecx);
	if (there)
		why = "/sys/kernel/vmcsinfo is there already";
	else if (!(ecx & CPUID_VMX))
		why = "the processor has no VMX";
	else if (is_kdump_kernel())
		why = "this kernel is here to save a dump";
	else if (hypervisor_is_type(X86_HYPER_MS_HYPERV))
		why = "a VMCS on Hyper-V is the enlightened one, which is documented";
	if (!why)
		return 0;
	pr_info("%s\n", why);
	return -ENODEV;
}

/* Wiped, for nobody shall take it for a VMCS, and freed. */
static void __init free_scratch(u8 *page)
{
	if (!page)
		return;
	memzero_explicit(page, PAGE_SIZE);
	free_page((unsigned long)page);
}

/*
 * Runs the experiments, on the first processor, so that each load finds the
 * same.
 */
static int __init find_out(void)
{
	int err = -ENOMEM;

	vmcs = (u8 *)get_zeroed_page(GFP_KERNEL);
	cells_page = (u8 *)get_zeroed_page(GFP_KERNEL);
	over_zeros = (u8 *)get_zeroed_page(GFP_KERNEL);
	over_ones = (u8 *)get_zeroed_page(GFP_KERNEL);
	alone_page = (u8 *)get_zeroed_page(GFP_KERNEL);
	vmxon_region = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (vmcs && cells_page && over_zeros && over_ones && alone_page && vmxon_region) {
		cpus_read_lock();
		probed_cpu = cpumask_first(cpu_online_mask);
		err = work_on_cpu(probed_cpu, probe, NULL);
		cpus_read_unlock();
	}
	if (!err && next_alone)
		keep_probe();
	free_scratch(vmcs);
	free_scratch(cells_page);
	free_scratch(over_zeros);
	free_scratch(over_ones);
	free_scratch(alone_page);
	free_scratch(vmxon_region);
	return err;
}

static void remove_probe(void)
{
	debugfs_remove_recursive(probe_dir);
	vfree(probe_blob.data);
}

/*
 * If no field is located the module stays all the same, for the file in debugfs:
 * without that it would have nothing to stay for.
 */
static int __init vmcsinfo_init(void)
{
	unsigned int i, n, both = 0;
	int err = refuse() ?: find_out();

	if (err)
		return err;
	n = located();
	if (!n) {
		pr_notice("no field could be located: please send in vmcsinfo/probe of debugfs\n");
		return probe_blob.data ? 0 : -ENODEV;
	}
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		both += places[i].offset >= 0 && !places[i].write;
	err = make_note();
	if (err)
		goto fail;
	err = sysfs_create_file(kernel_kobj, &vmcsinfo_attr.attr);
	if (err) {
		free_note();
		goto fail;
	}
	pr_info("%u fields located, %u of them by both experiments; access rights %s\n",
		n, both, rights_names[rights()]);
	return 0;
fail:
	remove_probe();
	return err;
}

static void __exit vmcsinfo_exit(void)
{
	remove_probe();
	if (!note)
		return;
	sysfs_remove_file(kernel_kobj, &vmcsinfo_attr.attr);
	free_note();
}

module_init(vmcsinfo_init);
module_exit(vmcsinfo_exit);
MODULE_SOFTDEP("pre: kvm_intel");	/* see the top of this file */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Publishes the layout of the processor's VMCS for crash dumps");
