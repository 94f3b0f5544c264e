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
 * turn.h tells why neither KVM nor a crash suffers from the experiments.
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
MODULE_PARM_DESC(cells, "publish the values that VMREAD returned, as in 2012, instead of offsets");

static bool debug;
module_param(debug, bool, 0444);
MODULE_PARM_DESC(debug, "keep what the experiments saw in debugfs, in vmcsinfo/probe");

#ifdef VMCSINFO_TEST	/* make VMCSINFO_TEST=y, for scripts/e2e-vmx */
static bool panic_in_turn;
module_param(panic_in_turn, bool, 0);
#else
#define panic_in_turn false
#endif

#define VMCS_SHADOW	BIT(31)		/* of the first word: a shadow VMCS */
#define CPUID_VMX	BIT(5)		/* of CPUID.1:ECX */
#define CPUID_HYBRID	0x1a		/* leaf: EAX[31:24] is the type of the core */
#define VMCS_SIZE	GENMASK(12, 0)	/* of the upper half of IA32_VMX_BASIC */

static struct debugfs_blob_wrapper probe_blob;	/* what the experiments saw, if it is kept */
static struct dentry *probe_dir;

/* Parts of this file, each of one topic. */
#include "vmx.h"
#include "locate.h"
#include "probe.h"
#include "turn.h"
#include "note.h"

/*
 * CPUID as the processor answers it, even for what the kernel has switched off.
 * The header of the kernel's own function for this differs between kernels.
 */
static void __init cpuid_of(u32 leaf, u32 *eax, u32 *ecx)
{
	u32 ebx, edx;

	*eax = leaf;
	*ecx = 0;
	asm volatile("cpuid" : "+a" (*eax), "=b" (ebx), "+c" (*ecx), "=d" (edx));
}

/* The type of this core of a hybrid processor, or NULL: their layouts may differ. */
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

/* Sets *differs if this processor's VMCSs have another revision than the one probed. */
static void __init compare_revision(void *differs)
{
	u32 lo, hi;

	if (rdmsr_safe(MSR_IA32_VMX_BASIC, &lo, &hi) || (lo & ~VMCS_SHADOW) != revision)
		WRITE_ONCE(*(bool *)differs, true);
}

/* Returns 0 if VMX can be used on this processor, and otherwise prints why not. */
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

/* The number of fields that were located. */
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

/* Makes the file that tells why fields were not located. It needs debugfs. */
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
 * Returns 0 if this host can be probed, and otherwise prints why not. No reason is
 * a fault of the host, so each is -ENODEV, which systemd-modules-load does not take
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

/* Wipes a page, so that no search takes it for a VMCS, and frees it. */
static void __init free_scratch(u8 *page)
{
	if (!page)
		return;
	memzero_explicit(page, PAGE_SIZE);
	free_page((unsigned long)page);
}

/* Runs the experiments on the first processor, so that each load finds the same. */
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
 * If no field is located the module stays loaded for its file in debugfs. Loading
 * fails if there is no such file either.
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
MODULE_SOFTDEP("pre: kvm_intel");	/* see turn.h */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Publishes the layout of the processor's VMCS for crash dumps");
