// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmread - for tests: what VMREAD returns of a VMCS that is current on some processor
 *
 * When it is loaded it writes all fields to vmread/fields of debugfs, as lines
 * "NAME=VALUE\n" in hexadecimal, and the VMCS's page, as it is in memory, to
 * vmread/page. That is in hexadecimal, too: a search of a dump would find a plain
 * copy. The two agree without a VMCLEAR, which would harm the guest, only if the
 * processor keeps nothing of a VMCS inside, as in Bochs.
 */
#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/special_insns.h>
#include <asm/processor-flags.h>

static const struct { const char *name; unsigned long encoding; } fields[] = {
#define FIELD(encoding, name) { #name, encoding },
#include "fields.h"
};

static char text[16384], page[2 * PAGE_SIZE + 1];
static struct debugfs_blob_wrapper fields_blob = { .data = text }, page_blob = { .data = page };
static struct dentry *dir;

static bool vmread(unsigned long encoding, u64 *value)
{
	u8 failed;

	*value = 0;
	asm volatile("vmread %2, %1; setna %0" : "=qm" (failed), "+r" (*value) : "r" (encoding) : "cc", "memory");
	return !failed;
}

static void read_all(void *unused)
{
	unsigned long flags;
	u64 current_vmcs = ~0ULL, value;
	const u8 *p;
	int i, len;

	local_irq_save(flags);
	if (__read_cr4() & X86_CR4_VMXE)
		asm volatile("vmptrst %0" : "=m" (current_vmcs) : : "cc", "memory");
	if (current_vmcs != ~0ULL) {
		len = scnprintf(text, sizeof(text), "VMCS=%llx\n", current_vmcs);
		for (i = 0; i < ARRAY_SIZE(fields); i++)
			if (vmread(fields[i].encoding, &value))
				len += scnprintf(text + len, sizeof(text) - len, "%s=%llx\n", fields[i].name, value);
		fields_blob.size = len;
		p = __va(current_vmcs);
		for (i = 0; i < PAGE_SIZE; i++)
			sprintf(page + 2 * i, "%02x", p[i]);
		page_blob.size = 2 * PAGE_SIZE;
	}
	local_irq_restore(flags);
}

static int __init vmread_init(void)
{
	int cpu;

	for_each_online_cpu(cpu)
		if (!fields_blob.size)
			smp_call_function_single(cpu, read_all, NULL, 1);
	dir = debugfs_create_dir("vmread", NULL);
	debugfs_create_blob("fields", 0400, dir, &fields_blob);
	debugfs_create_blob("page", 0400, dir, &page_blob);
	return 0;
}

static void __exit vmread_exit(void)
{
	debugfs_remove_recursive(dir);
}

module_init(vmread_init);
module_exit(vmread_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VMREAD of everything, for tests");
