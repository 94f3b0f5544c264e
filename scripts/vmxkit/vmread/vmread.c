// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmread - for tests: what VMREAD says of the VMCS that is current here
 *
 * /sys/kernel/vmread/fields reads all fields of it, "NAME=VALUE\n" in
 * hexadecimal; /sys/kernel/vmread/page is its page, as it lay in memory then, in
 * hexadecimal, too: a copy as it is would be found in a dump. Only an emulator that
 * keeps nothing of a VMCS in the processor (Bochs) has both alike without a
 * VMCLEAR, which would harm the guest.
 */
#include <linux/io.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>
#include <asm/special_insns.h>
#include <asm/processor-flags.h>

static const struct { const char *name; unsigned long encoding; } fields[] = {
#define FIELD(encoding, name) { #name, encoding },
#include "fields.h"
};

static u64 current_vmcs;
static char text[16384], page[2 * PAGE_SIZE];
static size_t len;

static bool vmread(unsigned long encoding, u64 *value)
{
	u8 failed;

	*value = 0;
	asm volatile("vmread %2, %1; setna %0" : "=qm" (failed), "+r" (*value) : "r" (encoding) : "cc", "memory");
	return !failed;
}

static void read_all(void)
{
	unsigned long flags;
	u64 value;
	int i;

	len = 0;
	current_vmcs = ~0ULL;
	local_irq_save(flags);
	if (__read_cr4() & X86_CR4_VMXE)
		asm volatile("vmptrst %0" : "=m" (current_vmcs) : : "cc", "memory");
	if (current_vmcs != ~0ULL) {
		len += scnprintf(text + len, sizeof(text) - len, "VMCS=%llx\n", current_vmcs);
		for (i = 0; i < ARRAY_SIZE(fields); i++)
			if (vmread(fields[i].encoding, &value))
				len += scnprintf(text + len, sizeof(text) - len, "%s=%llx\n", fields[i].name, value);
		bin2hex(page, __va(current_vmcs), PAGE_SIZE);
	}
	local_irq_restore(flags);
}

static ssize_t fields_read(struct file *f, struct kobject *k, struct bin_attribute *a, char *buf, loff_t off, size_t n)
{
	if (!off)
		read_all();
	return memory_read_from_buffer(buf, n, &off, text, len);
}

static ssize_t page_read(struct file *f, struct kobject *k, struct bin_attribute *a, char *buf, loff_t off, size_t n)
{
	if (current_vmcs == ~0ULL)
		return 0;
	return memory_read_from_buffer(buf, n, &off, page, sizeof(page));
}

static struct bin_attribute fields_attr = { .attr = { .name = "fields", .mode = 0400 }, .size = sizeof(text), .read = fields_read };
static struct bin_attribute page_attr = { .attr = { .name = "page", .mode = 0400 }, .size = sizeof(page), .read = page_read };
static struct kobject *dir;

static int __init vmread_init(void)
{
	dir = kobject_create_and_add("vmread", kernel_kobj);
	if (!dir)
		return -ENOMEM;
	return sysfs_create_bin_file(dir, &fields_attr) ?: sysfs_create_bin_file(dir, &page_attr);
}

static void __exit vmread_exit(void)
{
	kobject_put(dir);
}

module_init(vmread_init);
module_exit(vmread_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VMREAD of everything, for tests");
