// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmcsinfo_test: stands in for the kernel side of VMCSINFO, which was never
 * merged.  It keeps one complete ELF note ("VMCSINFO", type 0) in physically
 * contiguous kernel memory and publishes where it is, in the same form as
 * /sys/kernel/vmcoreinfo:
 *
 *   /sys/kernel/vmcsinfo            "<hex address> <hex size>\n"
 *   /sys/kernel/vmcsinfo_test/blob  the bytes themselves (the truth, for tests)
 *
 * Parameters:
 *   size=N        bytes reserved and announced            (default 0x2000)
 *   pa_fmt=0|1    0: "%llx %x"   1: "0x%016llx %x", which is what a
 *                 64-bit kernel >= 4.12 prints in vmcoreinfo ("%pa %x")
 *   offset=N      start the note N bytes into the allocation (default 0)
 *   min_phys=A max_phys=B   keep the block inside [A, B)  (default: anywhere)
 *   scribble=1    a panic overwrites the note; needs crash_kexec_post_notifiers
 *                 on the kernel's command line, or kdump comes before it
 */
#include <linux/module.h>
#include <linux/kobject.h>
#include <linux/sysfs.h>
#include <linux/elf.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/io.h>
#include <linux/panic_notifier.h>

static unsigned int size = 0x2000;
module_param(size, uint, 0444);
static bool pa_fmt;
module_param(pa_fmt, bool, 0444);
static unsigned int offset;
module_param(offset, uint, 0444);
static unsigned long min_phys;
module_param(min_phys, ulong, 0444);
static unsigned long max_phys = ~0UL;
module_param(max_phys, ulong, 0444);
static bool scribble;
module_param(scribble, bool, 0444);

static void *mem, *blob;
static unsigned int order;
static struct kobject *test_kobj;

/* Names as in arch/x86/include/asm/vmx.h, values invented but stable. */
static const char *const names[] = {
	"PIN_BASED_VM_EXEC_CONTROL", "CPU_BASED_VM_EXEC_CONTROL",
	"SECONDARY_VM_EXEC_CONTROL", "VM_EXIT_CONTROLS", "VM_ENTRY_CONTROLS",
	"GUEST_ES_SELECTOR", "GUEST_CS_SELECTOR", "GUEST_SS_SELECTOR",
	"GUEST_DS_SELECTOR", "GUEST_FS_SELECTOR", "GUEST_GS_SELECTOR",
	"GUEST_LDTR_SELECTOR", "GUEST_TR_SELECTOR", "HOST_ES_SELECTOR",
	"HOST_CS_SELECTOR", "HOST_SS_SELECTOR", "HOST_DS_SELECTOR",
	"HOST_FS_SELECTOR", "HOST_GS_SELECTOR", "HOST_TR_SELECTOR",
	"IO_BITMAP_A", "IO_BITMAP_A_HIGH", "IO_BITMAP_B", "IO_BITMAP_B_HIGH",
	"MSR_BITMAP", "MSR_BITMAP_HIGH", "VM_EXIT_MSR_STORE_ADDR",
	"VM_EXIT_MSR_LOAD_ADDR", "VM_ENTRY_MSR_LOAD_ADDR", "TSC_OFFSET",
	"TSC_OFFSET_HIGH", "VIRTUAL_APIC_PAGE_ADDR", "APIC_ACCESS_ADDR",
	"EPT_POINTER", "EPT_POINTER_HIGH", "GUEST_PHYSICAL_ADDRESS",
	"VMCS_LINK_POINTER", "VMCS_LINK_POINTER_HIGH", "GUEST_IA32_DEBUGCTL",
	"GUEST_IA32_PAT", "GUEST_IA32_EFER", "GUEST_PDPTR0", "GUEST_PDPTR1",
	"GUEST_PDPTR2", "GUEST_PDPTR3", "HOST_IA32_PAT", "HOST_IA32_EFER",
	"EXCEPTION_BITMAP", "PAGE_FAULT_ERROR_CODE_MASK",
	"PAGE_FAULT_ERROR_CODE_MATCH", "CR3_TARGET_COUNT",
	"VM_EXIT_MSR_STORE_COUNT", "VM_EXIT_MSR_LOAD_COUNT",
	"VM_ENTRY_MSR_LOAD_COUNT", "VM_ENTRY_INTR_INFO_FIELD",
	"VM_ENTRY_EXCEPTION_ERROR_CODE", "VM_ENTRY_INSTRUCTION_LEN",
	"TPR_THRESHOLD", "VM_INSTRUCTION_ERROR", "VM_EXIT_REASON",
	"VM_EXIT_INTR_INFO", "VM_EXIT_INTR_ERROR_CODE",
	"IDT_VECTORING_INFO_FIELD", "IDT_VECTORING_ERROR_CODE",
	"VM_EXIT_INSTRUCTION_LEN", "VMX_INSTRUCTION_INFO", "GUEST_ES_LIMIT",
	"GUEST_CS_LIMIT", "GUEST_CR0", "GUEST_CR3", "GUEST_CR4",
	"GUEST_RSP", "GUEST_RIP", "GUEST_RFLAGS", "HOST_CR0", "HOST_CR3",
	"HOST_CR4", "HOST_RSP", "HOST_RIP",
};

static ssize_t vmcsinfo_show(struct kobject *k, struct kobj_attribute *a,
			     char *buf)
{
	unsigned long long pa = virt_to_phys(blob);

	return pa_fmt ? sprintf(buf, "0x%016llx %x\n", pa, size)
		      : sprintf(buf, "%llx %x\n", pa, size);
}
static struct kobj_attribute vmcsinfo_attr = __ATTR_RO(vmcsinfo);

static ssize_t blob_read(struct file *f, struct kobject *k,
			 struct bin_attribute *a, char *buf, loff_t off,
			 size_t n)
{
	return memory_read_from_buffer(buf, n, &off, blob, size);
}
static struct bin_attribute blob_attr = {
	.attr = { .name = "blob", .mode = 0400 }, .read = blob_read,
};

static int on_panic(struct notifier_block *nb, unsigned long event, void *p)
{
	memset(blob, 0xa5, size);
	return NOTIFY_DONE;
}
static struct notifier_block panic_block = { .notifier_call = on_panic };

/* Take blocks until one lies in the wanted window, then free the others. */
static void *get_block(void)
{
	LIST_HEAD(rejects);
	struct list_head *p, *q;
	void *b;

	while ((b = (void *)__get_free_pages(GFP_KERNEL | __GFP_NOWARN |
					     __GFP_NORETRY, order))) {
		phys_addr_t pa = virt_to_phys(b);

		if (pa >= min_phys && pa + (PAGE_SIZE << order) <= max_phys)
			break;
		list_add(b, &rejects);
	}
	list_for_each_safe(p, q, &rejects)
		free_pages((unsigned long)p, order);
	return b;
}

static int __init vmcsinfo_test_init(void)
{
	Elf64_Nhdr *n;
	char *desc;
	unsigned int len, room, i;
	int err;

	order = get_order(offset + size);
	mem = get_block();
	if (!mem)
		return -ENOMEM;
	memset(mem, 0, PAGE_SIZE << order);
	blob = mem + offset;

	n = blob;
	strcpy(blob + sizeof(*n), "VMCSINFO");
	desc = blob + sizeof(*n) + 12;
	room = size - (desc - (char *)blob) - sizeof(*n);
	len = scnprintf(desc, room, "REVISION_ID=d\n");
	for (i = 0; i < ARRAY_SIZE(names); i++)
		len += scnprintf(desc + len, room - len, "FIELD(%s)=%04x%04x\n",
				 names[i], 0x0184 + 0x10 * i, 0x0180 + 0x10 * i);
	n->n_namesz = sizeof("VMCSINFO");
	n->n_descsz = len;
	n->n_type = 0;
	/* what follows stays zero: the empty note the kernel ends its own with */

	err = sysfs_create_file(kernel_kobj, &vmcsinfo_attr.attr);
	if (err)
		goto free;
	test_kobj = kobject_create_and_add("vmcsinfo_test", kernel_kobj);
	blob_attr.size = size;
	if (!test_kobj || sysfs_create_bin_file(test_kobj, &blob_attr)) {
		err = -ENOMEM;
		goto del;
	}
	if (scribble)
		atomic_notifier_chain_register(&panic_notifier_list,
					       &panic_block);
	pr_info("vmcsinfo_test: note at %llx, %x reserved, descsz %u, %zu fields\n",
		(unsigned long long)virt_to_phys(blob), size, len,
		ARRAY_SIZE(names));
	return 0;
del:
	kobject_put(test_kobj);
	sysfs_remove_file(kernel_kobj, &vmcsinfo_attr.attr);
free:
	free_pages((unsigned long)mem, order);
	return err;
}

static void __exit vmcsinfo_test_exit(void)
{
	if (scribble)
		atomic_notifier_chain_unregister(&panic_notifier_list,
						 &panic_block);
	sysfs_remove_bin_file(test_kobj, &blob_attr);
	kobject_put(test_kobj);
	sysfs_remove_file(kernel_kobj, &vmcsinfo_attr.attr);
	free_pages((unsigned long)mem, order);
}

module_init(vmcsinfo_test_init);
module_exit(vmcsinfo_test_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Test provider of a VMCSINFO note");
