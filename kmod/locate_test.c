// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs locate.h on models of processors, in user space:
 *
 *	cc -O -Wall -Werror -o locate_test kmod/locate_test.c && ./locate_test
 *
 * A model has every field at a place of its own. It may keep fields inside until
 * VMCLEAR, pack access rights, count VMCLEARs in the page, mark what VMWRITE has
 * written, insist on VMCLEAR before VMPTRLD, lack fields, or let none be read-only.
 * For each all fields must be found, at their places, and no other. Prints what is
 * wrong; the exit status is 1 if anything is. With a directory as the argument it
 * writes a file as of probe.h for each model there, named by its number.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;

#define __init
#define __initdata
#define __initconst
#define PAGE_SIZE 4096
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT_ULL(n) (1ULL << (n))
#define __pa(p) ((u64)(uintptr_t)(p))
#define GUEST_ES_AR_BYTES 0x4814
#define GUEST_TR_AR_BYTES 0x4822
#define VM_INSTRUCTION_ERROR 0x4400

static int vmcs_clear(u64 pa);
static int vmcs_load(u64 pa);
static int vmcs_read(unsigned long encoding, u64 *value);
static int vmcs_write(unsigned long encoding, u64 value);

#include "locate.h"
#include "probe.h"

enum { NO_FIELD = 12, COUNTER = 8, VALID = 16, FIRST = 64 };

static struct model {
	const char *name;
	unsigned int size;	/* of a VMCS */
	enum rights rights;
	bool caching;		/* fields are in the page only after VMCLEAR */
	bool normalises;	/* VMCLEAR writes access rights without other bits */
	bool counter;		/* VMCLEAR counts in the page */
	bool valid;		/* VMWRITE sets a bit for the field in the page */
	bool strict;		/* VMPTRLD needs a page as VMCLEAR left it */
	bool writable;		/* read-only fields can be written */
	unsigned int lacks;	/* every so many-th field is not there */
	bool swaps;		/* the first two fields are written in each other's place */
	bool beyond;		/* the first field lies after the declared size */
	bool ors;		/* VMWRITE clears no bits */
	bool inverts;		/* fields are kept with all bits inverted */
} models[] = {
	{ "nothing is kept inside", 4096, PLAIN },
	{ "as Bochs", 4096, ROTATED },
	{ "packed access rights", 4096, PACKED, .normalises = true },
	{ "caching until VMCLEAR", 4096, PACKED, .caching = true },
	{ "caching, access rights come out clean", 4096, PLAIN, .caching = true, .normalises = true },
	{ "a counter at VMCLEAR", 4096, ROTATED, .counter = true },
	{ "valid bits at VMWRITE", 4096, PACKED, .valid = true },
	{ "strict about VMCLEAR", 4096, PACKED, .strict = true },
	{ "VMWRITE to all fields", 4096, PACKED, .writable = true, .lacks = 5 },
	{ "an old one, which lacks fields", 4096, ROTATED, .lacks = 3 },
	{ "a small VMCS", 2048, PACKED, .caching = true },
	{ "all of it", 2048, PACKED, .caching = true, .normalises = true, .counter = true, .valid = true, .strict = true, .lacks = 7 },
	{ "read and write disagree", 4096, PACKED, .swaps = true },
	{ "a field beyond the declared size", 2048, PACKED, .beyond = true },
	{ "VMWRITE clears no bits", 4096, PACKED, .ors = true },
	{ "fields are kept inverted", 4096, PLAIN, .inverts = true, .counter = true },
}, *m;

static u8 page[PAGE_SIZE] __attribute__((aligned(16))), cleared[PAGE_SIZE];
static u64 inside[ARRAY_SIZE(fields)];
static unsigned int truth[ARRAY_SIZE(fields)], clears;
static bool is_current;

static unsigned int kept(unsigned int i)
{
	return is_rights(&fields[i]) && m->rights == PACKED ? 2 : width(&fields[i]);
}

static bool lacking(unsigned int i)
{
	return m->lacks && i % m->lacks == 1 && fields[i].encoding != VM_INSTRUCTION_ERROR;
}

static bool read_only(unsigned int i)
{
	return !m->writable && (fields[i].encoding >> 10 & 3) == 1;
}

/* A field's value in the page, as VMREAD returns it. */
static u64 from_page(unsigned int i)
{
	u64 v = bytes(page, truth[i], kept(i));

	if (m->inverts) {
		v = ~v;
		return kept(i) == 8 ? v : v & (BIT_ULL(8 * kept(i)) - 1);
	}
	if (!is_rights(&fields[i]))
		return v;
	if (m->rights == ROTATED)
		v = (u32)v >> 8 | (u32)v << 24;
	else if (m->rights == PACKED)
		v = (v & 0xf0ff) | (v >> 11 & 1) << 16;
	return v & RIGHTS;
}

static void to_page(unsigned int i, u64 v)
{
	unsigned int at = truth[m->swaps && i < 2 ? 1 - i : i];

	if (is_rights(&fields[i]))
		v = stored(m->rights, v);
	if (m->inverts)
		v = ~v;
	memcpy(page + at, &v, kept(i));
	if (m->valid)
		page[VALID + i / 8] |= 1 << i % 8;
}

static int find(unsigned long encoding)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].encoding == encoding && !lacking(i))
			return i;
	return -1;
}

static void set(unsigned int i, u64 v)
{
	if (m->caching)
		inside[i] = v;
	else
		to_page(i, v);
}

static int fail(u64 error)
{
	set(find(VM_INSTRUCTION_ERROR), error);
	return -EIO;
}

static int vmcs_clear(u64 pa)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++)
		if (is_current && m->caching && !lacking(i))
			to_page(i, inside[i]);
		else if (is_current && m->normalises && is_rights(&fields[i]) && !lacking(i))
			to_page(i, from_page(i));
	is_current = false;
	if (m->counter) {
		clears++;
		memcpy(page + COUNTER, &clears, sizeof(clears));
	}
	memcpy(cleared, page, PAGE_SIZE);
	return pa == __pa(page) ? 0 : -EIO;
}

static int vmcs_load(u64 pa)
{
	if (m->strict && memcmp(page, cleared, PAGE_SIZE))
		return -EIO;
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++)
		inside[i] = from_page(i);
	is_current = true;
	return ((u32 *)page)[0] == revision && pa == __pa(page) ? 0 : -EIO;
}

static int vmcs_read(unsigned long encoding, u64 *value)
{
	int i = find(encoding);

	*value = 0;
	if (i < 0)
		return fail(NO_FIELD);
	*value = m->caching ? inside[i] : from_page(i);
	return 0;
}

static int vmcs_write(unsigned long encoding, u64 value)
{
	int i = find(encoding);

	if (i < 0)
		return fail(NO_FIELD);
	if (read_only(i))
		return fail(READ_ONLY);
	set(i, m->ors ? value | from_page(i) : value);
	return 0;
}

/* Gives every field a place, in an order that nobody expects. */
static void lay_out(void)
{
	unsigned int order[ARRAY_SIZE(fields)], at = FIRST, i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		order[i] = i;
	for (i = ARRAY_SIZE(fields) - 1; i > 0; i--) {
		unsigned int j = rand() % (i + 1), other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		truth[order[i]] = at;
		at += (width(&fields[order[i]]) + 1) & ~1U;
	}
	if (m->beyond)
		truth[0] = m->size + 64;
	if (at > m->size) {
		printf("%s: %u bytes of fields\n", m->name, at);
		exit(1);
	}
}

/* Where a field must be found, or -ENOENT. */
static int expected(unsigned int i)
{
	bool gone = lacking(i) || m->inverts || (m->swaps && i < 2) || (m->beyond && i == 0) || (m->ors && !read_only(i));

	return gone ? -ENOENT : (int)truth[i];
}

static int run(void)
{
	int bad = 0;

	memset(places, 0, sizeof(places));
	memset(page, 0, sizeof(page));
	vmcs_size = m->size;
	lay_out();
	if (read_pass() || write_zeros() || write_ones()) {
		printf("%s: a VMX instruction failed\n", m->name);
		return 1;
	}
	locate_all();
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++) {
		int want = expected(i);

		if (places[i].offset == want && !(is_rights(&fields[i]) && want >= 0 && places[i].rights != m->rights))
			continue;
		printf("%s: %s at %d (read %d, write %d, rights %s), expected %d, %s\n", m->name, fields[i].name,
		       places[i].offset, places[i].read, places[i].write, rights_names[places[i].rights], want, rights_names[m->rights]);
		bad = 1;
	}
	return bad;
}

/* Writes the file of probe.h for the model, as the module would with debug=1. */
static int save(const char *dir)
{
	static u8 file[PROBE_MAX];
	char path[1000], facts[PROBE_FACTS];
	FILE *out;
	u32 size;

	for (next_alone = n_diffs = 0; next_alone <= ARRAY_SIZE(fields);)
		if (write_alone())
			return 1;
	snprintf(facts, sizeof(facts), "REVISION_ID=%x\nIA32_VMX_BASIC=%llx\nDIFFS=%x\n"
		 "CPU_VENDOR=GenuineIntel\nCPU_FAMILY=6\nCPU_MODEL=b7\nCPU_STEPPING=1\nCPU_MICROCODE=12b\n",
		 revision, (unsigned long long)vmcs_size << 32 | revision, n_diffs);
	memset(file, 0, sizeof(file));
	size = write_probe(file, facts);
	snprintf(path, sizeof(path), "%s/%zu", dir, m - models);
	out = fopen(path, "wb");
	return !out || fwrite(file, size, 1, out) != 1 || fclose(out);
}

int main(int argc, char **argv)
{
	static u8 a[PAGE_SIZE], b[PAGE_SIZE], c[PAGE_SIZE], d[PAGE_SIZE];
	int bad = 0;

	vmcs = page;
	cells_page = a;
	over_zeros = b;
	over_ones = c;
	alone_page = d;
	revision = 0x13;
	for (m = models; m < models + ARRAY_SIZE(models); m++)
		for (int times = 0; times < 20; times++) {
			srand(times);
			bad |= run();
			if (bad)
				return 1;
			if (times == 0 && argc > 1 && save(argv[1])) {
				printf("%s: no file of it\n", m->name);
				return 1;
			}
		}
	printf("%zu models\n", ARRAY_SIZE(models));
	return 0;
}
