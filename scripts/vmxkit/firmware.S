# SPDX-License-Identifier: Apache-2.0
# The firmware of a QEMU guest that runs nothing else: 64 KiB that end at 1 MiB and
# at 4 GiB. It enters long mode, gives every register a value of its own, and spins;
# with HALT it halts for good.
#
#	as --defsym HALT=0 -o firmware.o firmware.S
#	ld -Ttext=0xf0000 --oformat binary -o firmware.bin firmware.o

	.code16
	.globl	_start
_start:	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movl	$0x3003, 0x2000		# PML4
	movl	$0x4003, 0x3000		# PDPT
	movl	$0x83, 0x4000		# the first 2 MiB
	data32 lgdt %cs:gdtr - 0xf0000
	movl	$0x620, %eax		# PAE, OSFXSR, OSXMMEXCPT
	movl	%eax, %cr4
	movl	$0x2000, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	# EFER
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$0x80050033, %eax
	movl	%eax, %cr0
	ljmpl	$8, $long

	.code64
long:	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movabsq	$0xaaaa000000000001, %rax
	movabsq	$0xbbbb000000000002, %rbx
	movabsq	$0xcccc000000000003, %rcx
	movabsq	$0xdddd000000000004, %rdx
	movabsq	$0x5151000000000005, %rsi
	movabsq	$0xd1d1000000000006, %rdi
	movabsq	$0xb0b0000000000007, %rbp
	movl	$0x9000, %esp
	movabsq	$0x0808000000000008, %r8
	movabsq	$0x0909000000000009, %r9
	movabsq	$0x101000000000000a, %r10
	movabsq	$0x111100000000000b, %r11
	movabsq	$0x121200000000000c, %r12
	movabsq	$0x131300000000000d, %r13
	movabsq	$0x141400000000000e, %r14
	movabsq	$0x151500000000000f, %r15
	pushq	%r15
	sti				# Bochs keeps the host's interrupts masked otherwise
1:
	.if HALT
	hlt
	.endif
	jmp	1b

	.balign	8
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	. - gdt - 1
	.long	gdt

	.org	0xfff0
	.code16
	ljmpw	$0xf000, $_start - 0xf0000
	.org	0x10000
