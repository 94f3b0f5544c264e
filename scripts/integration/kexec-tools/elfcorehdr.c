// SPDX-License-Identifier: GPL-2.0-only
/*
 * An LD_PRELOAD library: kexec -p runs to its end but loads nothing. The ELF
 * header that it would have loaded, by kexec_load, is kept in $ELFCOREHDR.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* As in linux/kexec.h, which needs kernel headers. */
struct kexec_segment {
	const void *buf;
	size_t bufsz;
	const void *mem;
	size_t memsz;
};

/* Of all segments of a bzImage only the elfcorehdr is an ELF file. */
static void keep(const struct kexec_segment *s, unsigned long n)
{
	FILE *f = fopen(getenv("ELFCOREHDR"), "w");

	if (!f)
		abort();
	for (; n--; s++)
		if (s->bufsz > 4 && !memcmp(s->buf, "\177ELF", 4))
			fwrite(s->buf, 1, s->bufsz, f);
	if (fclose(f))
		abort();
}

long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_kexec_load) {
		keep((const void *)a[2], a[1]);
		return 0;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
