# A program whose registers are known: it never leaves its loop.
	.globl _start
_start:
	mov $0xb0b0b0b0b0b0b001, %r15
	mov $0xb0b0b0b0b0b0b002, %r14
	mov $0xb0b0b0b0b0b0b003, %r13
	mov $0xb0b0b0b0b0b0b004, %r12
	mov $0xb0b0b0b0b0b0b005, %rbx
	mov $0xb0b0b0b0b0b0b006, %rbp
	mov $0xb0b0b0b0b0b0b007, %rax
1:	jmp 1b
