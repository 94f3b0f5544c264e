/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the experiments saw, as a file that a user can send in: vmcsinfo/probe in
 * debugfs. locate_test.c writes it too, and internal/probefile reads it.
 *
 * All numbers are little-endian. The file is a struct probe_head, then sections:
 * each a struct probe_section, count records of size bytes, and zeros up to a
 * multiple of 8 bytes. A reader skips sections that it does not know, and the rest
 * of a record that is longer than it knows. A change that readers of this version
 * would misunderstand needs another version.
 */
#define PROBE_MAGIC	"VMCSPROB"
#define PROBE_VERSION	1
#define PROBE_FACTS	1024		/* more than the text of facts has */
#define PROBE_DIFFS	4096		/* differences that are kept */

struct probe_head {
	char magic[8];
	u32 version;
	u32 size;	/* of the file */
};

/*
 *	facts	text: lines NAME=VALUE about the processor, numbers hexadecimal
 *	fields	struct probe_field
 *	cells	the page with cells that VMREAD read
 *	zeros	the page after VMCLEAR with the markers, over a background of 0x00
 *	ones	and of 0xff
 *	diffs	struct probe_diff
 */
struct probe_section {
	char name[8];
	u32 count;
	u32 size;
};

struct probe_field {
	u64 value;	/* what VMREAD returned of the cells */
	u64 marker;	/* what VMWRITE wrote */
	s32 read;	/* the offset that follows from value, or -2 (no cells), -5 (no such field) */
	s32 write;	/* 0, or -30 (read-only), -6 (another error) */
	s32 offset;	/* the result, or a negative number */
	u16 encoding;
	u8 width;	/* bytes */
	u8 rights;	/* 0, or the form of access rights: 1 plain, 2 rotated, 3 packed */
};

/*
 * A byte of a page of zeros that VMWRITE of this field alone and VMCLEAR leave
 * other than VMCLEAR alone. Encoding 0xffff: one that VMCLEAR alone leaves other
 * than it was.
 */
struct probe_diff {
	u16 encoding;
	u16 offset;
	u8 before;
	u8 after;
};

static struct probe_diff diffs[PROBE_DIFFS] __initdata;
static unsigned int n_diffs __initdata;		/* may be more than there is room for */
static unsigned int next_alone __initdata;	/* 0: VMCLEAR alone; else a field's index + 1 */

static void __init compare(u16 encoding, const u8 *before, const u8 *after)
{
	unsigned int i;

	for (i = 0; i < PAGE_SIZE; i++) {
		if (before[i] == after[i])
			continue;
		if (n_diffs < PROBE_DIFFS)
			diffs[n_diffs] = (struct probe_diff){ encoding, i, before[i], after[i] };
		n_diffs++;
	}
}

/*
 * A further experiment, for this file alone: VMWRITEs one field in a page of
 * zeros, the next one each time. alone_page has what VMCLEAR leaves without it.
 */
static u8 *alone_page __initdata;

static int __init write_alone(void)
{
	unsigned int i = next_alone++;
	int err = vmcs_clear(__pa(vmcs));

	memset(vmcs, 0, PAGE_SIZE);
	err = err ?: load();
	if (err)
		return err;
	if (i)
		vmcs_write(fields[i - 1].encoding, marker(&fields[i - 1]));
	err = vmcs_clear(__pa(vmcs));
	if (i) {
		compare(fields[i - 1].encoding, alone_page, vmcs);
		return err;
	}
	memset(alone_page, 0, PAGE_SIZE);
	((u32 *)alone_page)[0] = revision;
	compare(0xffff, alone_page, vmcs);
	memcpy(alone_page, vmcs, PAGE_SIZE);
	return err;
}

/* Room for the file. */
#define PROBE_SECTIONS	6
#define PROBE_MAX	(sizeof(struct probe_head) +					\
			 PROBE_SECTIONS * (sizeof(struct probe_section) + 8) +		\
			 PROBE_FACTS + 3 * PAGE_SIZE + sizeof(diffs) +			\
			 ARRAY_SIZE(fields) * sizeof(struct probe_field))

/* Begins a section at offset at, and returns the offset of its records. */
static u32 __init begin_section(u8 *file, u32 at, const char *name, u32 count, u32 size)
{
	struct probe_section *s = (struct probe_section *)(file + at);

	memcpy(s->name, name, strlen(name));
	s->count = count;
	s->size = size;
	return at + sizeof(*s);
}

static u32 __init add_section(u8 *file, u32 at, const char *name, const void *records, u32 count, u32 size)
{
	at = begin_section(file, at, name, count, size);
	memcpy(file + at, records, count * size);
	return (at + count * size + 7) & ~7U;
}

/* Writes the file into PROBE_MAX bytes of zeros, and returns its length. */
static u32 __init write_probe(u8 *file, const char *facts)
{
	struct probe_head *head = (struct probe_head *)file;
	struct probe_field *f;
	unsigned int i;
	u32 at = add_section(file, sizeof(*head), "facts", facts, strlen(facts), 1);

	at = begin_section(file, at, "fields", ARRAY_SIZE(fields), sizeof(*f));
	f = (struct probe_field *)(file + at);
	for (i = 0; i < ARRAY_SIZE(fields); i++, f++) {
		f->value = places[i].value;
		f->marker = marker(&fields[i]);
		f->read = places[i].read;
		f->write = places[i].write;
		f->offset = places[i].offset;
		f->encoding = fields[i].encoding;
		f->width = width(&fields[i]);
		f->rights = places[i].rights;
	}
	at += ARRAY_SIZE(fields) * sizeof(*f);
	at = add_section(file, at, "cells", cells_page, PAGE_SIZE, 1);
	at = add_section(file, at, "zeros", over_zeros, PAGE_SIZE, 1);
	at = add_section(file, at, "ones", over_ones, PAGE_SIZE, 1);
	at = add_section(file, at, "diffs", diffs, n_diffs < PROBE_DIFFS ? n_diffs : PROBE_DIFFS, sizeof(*diffs));
	memcpy(head->magic, PROBE_MAGIC, sizeof(head->magic));
	head->version = PROBE_VERSION;
	head->size = at;
	return at;
}
