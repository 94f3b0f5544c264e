// SPDX-License-Identifier: Apache-2.0
// A small KVM guest with known registers and memory. Static, needs /dev/kvm only.
//
//     kvmguest NAME MODE RIP RSP CR3 [huge] [vcpus=N]
//
// MODE is
//     spin   long mode, spins; its vCPU stays in KVM_RUN
//     hlt    long mode, halts: KVM returns to user space, and we sleep
//     pause  long mode, spins until a timer kicks it out, and then we sleep
//     real   real mode (CR0.PE = 0), as pause
//
// Memory is 2 MiB at GPA 0, in long mode identity mapped by one page; with huge it
// is one page of the host's, too. vCPU v starts at RIP + v*0x1000 with
// RSP - v*0x1000. The lines printed begin with NAME.vCPU: EXPECT, the registers it
// will end up with; CODE, bytes at a GPA; RUN, what they are after KVM_RUN. NAME
// READY says that all vCPUs are where they shall be. After SIGUSR1 each runs once
// more, another RUN line tells how it went, and NAME AGAIN ends it. A line NAME FAIL
// says that a system call or an entry failed, or that memory is not what it was.
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define MEM (2u << 20)
#define MARKER_PAGE 0x8000 // read by the code, so that it is in the EPT
#define COUNT 0x9000	   // written by it

static const char *name, *mode;
static char *mem;
static int kvm, vm;

struct vcpu {
	int fd, number;
	struct kvm_run *run;
	uint64_t rip, rsp, r15; // where it starts
	unsigned char code[64];
	int size;
};
static struct vcpu vcpus[8];
static volatile sig_atomic_t again;

static void die(const char *what)
{
	printf("%s FAIL %s: %s\n", name, what, strerror(errno));
	exit(1);
}

static void must(int rc, const char *what)
{
	if (rc < 0)
		die(what);
}

static void on_alarm(int s) { (void)s; }
static void on_usr1(int s) { (void)s; again = 1; }

static struct kvm_segment segment(uint16_t selector, uint8_t type, int code, uint64_t base)
{
	return (struct kvm_segment){ .base = base, .limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .db = !code, .s = 1, .l = code, .g = 1 };
}

// Writes the code of one vCPU, and returns where it will stay.
static uint64_t write_code(struct vcpu *v)
{
	static const char tail[] = "VMCSNOTECODE";
	unsigned char *code = v->code;
	uint64_t rip = v->rip;
	int n = 0;
	uint64_t end;

#define put(s) (memcpy(code + n, s, sizeof(s) - 1), n += sizeof(s) - 1)
	if (!strcmp(mode, "real")) {
		put("\x50\x90\x90\x90");		    // push ax; nops
	} else {
		put("\x4c\x89\x3c\x25\x00\x90\x00\x00");    // mov [0x9000], r15
		put("\x48\x8b\x04\x25\x00\x80\x00\x00");    // mov rax, [0x8000]
		put("\x41\x57\x90\x90\x90\x90\x90\x90");    // push r15; nops
	}
	end = rip + n;
	if (!strcmp(mode, "hlt"))
		put("\xf4\xeb\xfd");			    // hlt; jmp back
	else
		put("\xeb\xfe");			    // jmp .
	put(tail);
	memcpy(mem + rip, code, n);
	v->size = n;
	printf("%s.%d CODE gpa=%#lx bytes=", name, v->number, rip);
	for (int i = 0; i < n; i++)
		printf("%02x", code[i]);
	printf("\n");
	return end;
}

static void set_cpuid(int fd)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + 128 * sizeof c->entries[0]);

	c->nent = 128;
	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c), "KVM_GET_SUPPORTED_CPUID");
	must(ioctl(fd, KVM_SET_CPUID2, c), "KVM_SET_CPUID2");
	free(c);
}

static void set_registers(int fd, uint64_t rip, uint64_t rsp, uint64_t cr3)
{
	struct kvm_sregs s;
	struct { struct kvm_msrs h; struct kvm_msr_entry e[3]; } msrs = { .h.nmsrs = 3, .e = {
		{ .index = 0x174, .data = 0x10 },
		{ .index = 0x175, .data = 0x0000555566667000 },
		{ .index = 0x176, .data = 0x0000777788889000 } } };
	struct kvm_regs r = { .rax = 0xaaaa0001, .rbx = 0xbbbb0002, .rcx = 0xcccc0003, .rdx = 0xdddd0004,
		.rsi = 0x5151, .rdi = 0xd1d1, .rbp = 0xb0b0, .r8 = 0x0808, .r9 = 0x0909, .r14 = 0x1414,
		.r15 = 0x5ec4e7c0de0000 + rip, .rsp = rsp, .rip = rip,
		.rflags = 0x202 }; // IF set: Bochs keeps interrupts masked otherwise

	must(ioctl(fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cs.base = 0;
	s.cs.selector = 0;
	if (strcmp(mode, "real")) {
		s.cs = segment(8, 11, 1, 0);
		s.ds = s.es = s.ss = segment(16, 3, 0, 0);
		s.fs = segment(16, 3, 0, 0x0000111122223000);
		s.gs = segment(16, 3, 0, 0x0000333344445000);
		s.gdt = (struct kvm_dtable){ .base = 0x5000, .limit = 0x17 };
		s.idt = (struct kvm_dtable){ .base = 0x6000, .limit = 0xfff };
		s.tr = (struct kvm_segment){ .base = 0x7000, .limit = 0x67, .type = 11, .present = 1, .selector = 0x18 };
		s.ldt.unusable = 1;
		s.cr0 = 0x80050033;
		s.cr3 = cr3;
		s.cr4 = 0x620;	// PAE, OSFXSR, OSXMMEXCPT
		s.efer = 0xd00; // LME, LMA, NX
	}
	must(ioctl(fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	must(ioctl(fd, KVM_SET_MSRS, &msrs), "KVM_SET_MSRS");
	must(ioctl(fd, KVM_SET_REGS, &r), "KVM_SET_REGS");
}

static void create(struct vcpu *v, uint64_t rip, uint64_t rsp, uint64_t cr3)
{
	int real = !strcmp(mode, "real"), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	must(v->fd = ioctl(vm, KVM_CREATE_VCPU, v->number), "KVM_CREATE_VCPU");
	v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		die("mmap of a vCPU");
	set_cpuid(v->fd);
	v->rip = rip;
	v->rsp = rsp;
	v->r15 = 0x5ec4e7c0de0000 + rip;
	set_registers(v->fd, rip, rsp, cr3);
	printf("%s.%d EXPECT rip=%#lx rsp=%#lx r15=%#lx", name, v->number,
	       write_code(v), rsp - (real ? 2 : 8), v->r15);
	printf(real ? " cr3=0x0\n" : " cr3=%#lx\n", cr3);
}

// Whether the vCPU's code is as it was written, and has written what it should.
static int whole(const struct vcpu *v)
{
	uint64_t pushed;

	memcpy(&pushed, mem + v->rsp - 8, 8);
	return !memcmp(mem + v->rip, v->code, v->size) && (!strcmp(mode, "real") || pushed == v->r15);
}

// An entry into the guest that failed, whatever KVM_RUN returned.
static int failed_entry(const struct vcpu *v)
{
	return v->run->exit_reason == KVM_EXIT_FAIL_ENTRY || v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR;
}

// Runs a vCPU until it comes back: by itself, or kicked by the timer.
static void run(struct vcpu *v)
{
	struct itimerval timer = { .it_value = { .tv_usec = 300000 } };
	struct kvm_regs r;
	struct kvm_sregs s;

	setitimer(ITIMER_REAL, &timer, NULL);
	int rc = ioctl(v->fd, KVM_RUN, 0), error = rc < 0 ? errno : 0;

	must(ioctl(v->fd, KVM_GET_REGS, &r), "KVM_GET_REGS");
	must(ioctl(v->fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	printf("%s.%d RUN rip=%#llx rsp=%#llx r15=%#llx cr3=%#llx errno=%d exit=%u\n",
	       name, v->number, r.rip, r.rsp, r.r15, s.cr3, error, v->run->exit_reason);
	if (error != EINTR && !(rc == 0 && v->run->exit_reason == KVM_EXIT_HLT))
		printf("%s FAIL KVM_RUN\n", name);
	if (!whole(v))
		printf("%s FAIL memory of vCPU %d\n", name, v->number);
}

int main(int argc, char **argv)
{
	int huge = 0, n = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 6)
		return 2;
	name = argv[1];
	mode = argv[2];
	uint64_t rip = strtoull(argv[3], 0, 0), rsp = strtoull(argv[4], 0, 0), cr3 = strtoull(argv[5], 0, 0);
	for (int i = 6; i < argc; i++) {
		huge |= !strcmp(argv[i], "huge");
		sscanf(argv[i], "vcpus=%d", &n);
	}
	must(kvm = open("/dev/kvm", O_RDWR), "/dev/kvm");
	must(vm = ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	must(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul), "KVM_SET_TSS_ADDR");
	char *raw = mmap(NULL, 2 * MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (raw == MAP_FAILED)
		die("mmap");
	mem = (char *)(((uintptr_t)raw + MEM - 1) & ~(uintptr_t)(MEM - 1));
	madvise(mem, MEM, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (strcmp(mode, "real")) { // PML4, PDPT, PD with one 2 MiB page
		*(uint64_t *)(mem + cr3) = (cr3 + 0x1000) | 3;
		*(uint64_t *)(mem + cr3 + 0x1000) = (cr3 + 0x2000) | 3;
		*(uint64_t *)(mem + cr3 + 0x2000) = 0x83;
	}
	uint64_t *gdt = (uint64_t *)(mem + 0x5000);
	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	snprintf(mem + MARKER_PAGE, 128, "VMCSNOTE-GUEST-%s-MARKER", name);
	struct kvm_userspace_memory_region region = { .memory_size = MEM, .userspace_addr = (uint64_t)mem };
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	printf("%s MEMORY hva=%p pid=%d\n", name, mem, getpid());
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_usr1 }, NULL);

	for (int v = 0; v < n; v++) {
		vcpus[v].number = v;
		create(&vcpus[v], rip + v * 0x1000, rsp - v * 0x1000, cr3);
		run(&vcpus[v]);
	}
	printf("%s READY\n", name);
	for (;;) {
		if (!strcmp(mode, "spin") && !again) {
			ioctl(vcpus[0].fd, KVM_RUN, 0);
			if (failed_entry(&vcpus[0]))
				die("entry");
		} else if (!again)
			pause();
		if (!again)
			continue;
		again = 0;
		for (int v = 0; v < n; v++)
			run(&vcpus[v]);
		printf("%s AGAIN\n", name);
	}
}
