/* SPDX-License-Identifier: GPL-2.0-only */
/* The VMX instructions. */
/*
 * Executes an instruction that takes the physical address of a VMX page. The value
 * is 0, -EIO for VMfail or -EFAULT for a fault. It can fault: a kernel with
 * preemption may have stopped KVM after it set CR4.VMXE and before VMXON.
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
