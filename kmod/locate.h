/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the fields lie: the experiments, and what follows from them. It is a file
 * of its own so that locate_test.c can run it on models of processors. The file
 * that includes it must define vmcs_clear(), vmcs_load(), vmcs_read() and
 * vmcs_write().
 */
#define VMCS_HEADER	8		/* revision identifier, VMX-abort indicator */
#define READ_ONLY	13		/* VM-instruction error: VMWRITE to a read-only field */
#define MARKER		0xf1e2d3c4b5a69788ULL
#define EACH_16_BITS	0x0001000100010001ULL
#define RIGHTS		0x0001f0ffU	/* all bits that access rights have */

struct field {
	const char *name;
	u16 encoding;
};

#define FIELD(encoding, name) { #name, encoding },
static const struct field fields[] __initconst = {
#include "fields.h"
};

#undef FIELD

/* How access rights are stored. */
enum rights { UNKNOWN, PLAIN, ROTATED, PACKED };

static const char * const rights_names[] = { "unknown", "plain", "rotated", "packed" };

/* What the experiments found of a field. */
struct place {
	u64 value;	/* what VMREAD returned of the cells */
	int read;	/* the offset that follows from it, or an error */
	int write;	/* an error, if VMWRITE failed */
	int offset;	/* the result, or an error */
	enum rights rights;
};

static struct place places[ARRAY_SIZE(fields)] __initdata;

static u8 *vmcs __initdata;		/* a page each, while probing */
static u8 *cells_page __initdata;	/* what VMREAD read */
static u8 *over_zeros __initdata;	/* the page with the markers, over a background of 0x00 */
static u8 *over_ones __initdata;	/* and of 0xff */
static u32 revision __initdata;
static unsigned int vmcs_size __initdata = PAGE_SIZE;	/* of a VMCS, by IA32_VMX_BASIC */

/*
 * The cell at an even offset, as in 2012: the offset's upper bits in an odd
 * byte, its lower ones in an even byte, so that a value shifted by a byte shows.
 */
static u16 __init cell(unsigned int offset)
{
	return ((offset >> 7) << 1 | 1) << 8 | (offset & 0x7f) << 1;
}

/* The offset that a cell encodes, or -ENOENT if it is none. */
static int __init uncell(u16 c)
{
	unsigned int offset = (c >> 9) << 7 | (c & 0xff) >> 1;

	return offset < vmcs_size && cell(offset) == c ? (int)offset : -ENOENT;
}

/* Bytes that VMREAD and VMWRITE access: bits 14:13 of the encoding. */
static unsigned int __init width(const struct field *f)
{
	static const u8 widths[] = { 2, 8, 4, 8 };

	return widths[f->encoding >> 13 & 3];
}

static bool __init is_rights(const struct field *f)
{
	return f->encoding >= GUEST_ES_AR_BYTES && f->encoding <= GUEST_TR_AR_BYTES;
}

/*
 * What is written to a field. Each 16 bits differ from those of all other fields,
 * and access rights have no other bits than theirs: those of all segments are
 * unusable, so that bit 16 shows where it is stored.
 */
static u64 __init marker(const struct field *f)
{
	unsigned int n = width(f), segment = (f->encoding - GUEST_ES_AR_BYTES) / 2;

	if (is_rights(f))
		return 1U << 16 | (segment + 3) << 12 | (0x81 + 0x0d * segment);
	return (MARKER ^ f->encoding * EACH_16_BITS) & (n == 8 ? ~0ULL : BIT_ULL(8 * n) - 1);
}

/* What the processor keeps of access rights. */
static u32 __init stored(enum rights how, u32 rights)
{
	switch (how) {
	case ROTATED:
		return rights << 8 | rights >> 24;
	case PACKED:	/* 16 bits: bit 16 moves to 11 */
		return (rights & 0xf0ff) | (rights >> 16 & 1) << 11;
	default:
		return rights;
	}
}

/*
 * Writes the page's header and makes it the current VMCS. Software that has
 * written to a VMCS's page has to VMCLEAR it before VMPTRLD (SDM volume 3,
 * "Initializing a VMCS").
 */
static int __init load(void)
{
	((u32 *)vmcs)[0] = revision;
	((u32 *)vmcs)[1] = 0;
	return vmcs_clear(__pa(vmcs)) ?: vmcs_load(__pa(vmcs));
}

/* The VM-instruction error field, which every VMREAD and VMWRITE that fails changes. */
static unsigned int __init error_field(void)
{
	unsigned int i = 0;

	while (fields[i].encoding != VM_INSTRUCTION_ERROR)
		i++;
	return i;
}

/* VMREADs a field of the page with cells. */
static void __init read_field(const struct field *f, struct place *p)
{
	unsigned int i, n = width(f);

	p->read = vmcs_read(f->encoding, &p->value);
	if (p->read)
		return;
	p->read = uncell(p->value);
	for (i = 2; i < n && p->read >= 0; i += 2)
		if (uncell(p->value >> 8 * i) != p->read + (int)i)
			p->read = -ENOENT;
}

/* The first experiment: VMREADs all fields of a page with cells. */
static int __init read_pass(void)
{
	unsigned int offset, i, error = error_field();
	int err = vmcs_clear(__pa(vmcs));

	for (offset = 0; offset < PAGE_SIZE; offset += 2)
		*(u16 *)(vmcs + offset) = cell(offset);
	memcpy(cells_page, vmcs, PAGE_SIZE);
	err = err ?: load();
	if (err)
		return err;
	read_field(&fields[error], &places[error]);
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (i != error)
			read_field(&fields[i], &places[i]);
	return 0;
}

/* VMWRITEs the marker to a field. */
static void __init write_field(const struct field *f, struct place *p)
{
	u64 error = 0;

	if (!vmcs_write(f->encoding, marker(f)))
		return;
	vmcs_read(VM_INSTRUCTION_ERROR, &error);
	p->write = error == READ_ONLY ? -EROFS : -ENXIO;
}

/*
 * The second experiment: VMWRITEs a marker to every field, on a page filled with
 * background, and has VMCLEAR flush them to the page.
 */
static int __init write_pass(u8 background)
{
	unsigned int i, error = error_field();
	int err = vmcs_clear(__pa(vmcs));

	memset(vmcs, background, PAGE_SIZE);
	err = err ?: load();
	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (i != error)
			write_field(&fields[i], &places[i]);
	write_field(&fields[error], &places[error]);
	err = vmcs_clear(__pa(vmcs));
	memcpy(background ? over_ones : over_zeros, vmcs, PAGE_SIZE);
	return err;
}

static int __init write_zeros(void)
{
	return write_pass(0x00);
}

static int __init write_ones(void)
{
	return write_pass(0xff);
}

/* The n bytes at an offset of a page. */
static u64 __init bytes(const u8 *page, unsigned int offset, unsigned int n)
{
	u64 v = 0;

	memcpy(&v, page + offset, n);
	return v;
}

/*
 * Whether access rights lie at an offset in a form: VMREAD returned the cells
 * that are there, and the marker is there over both backgrounds. The bits of 32 that
 * are no access rights must be zero, those of 16 may be anything.
 */
static bool __init rights_at(const struct field *f, const struct place *p, unsigned int offset,
			     enum rights how)
{
	unsigned int n = how == PACKED ? 2 : 4;
	u32 used = stored(how, RIGHTS), kept = how == PACKED ? used : ~0U;
	u32 want = stored(how, marker(f));

	return offset + n <= vmcs_size &&
	       (bytes(cells_page, offset, n) & used) == stored(how, p->value & RIGHTS) &&
	       (bytes(over_zeros, offset, n) & kept) == want &&
	       (bytes(over_ones, offset, n) & kept) == want;
}

/* The only offset and form of access rights, or -ENOENT. */
static int __init find_rights(const struct field *f, struct place *p)
{
	int found = -ENOENT;
	unsigned int offset;
	enum rights how;

	for (offset = VMCS_HEADER; offset < vmcs_size; offset += 2)
		for (how = PLAIN; how <= PACKED; how++) {
			if (!rights_at(f, p, offset, how))
				continue;
			if (found >= 0) {
				p->rights = UNKNOWN;
				return -ENOENT;
			}
			found = offset;
			p->rights = how;
		}
	return found;
}

/*
 * Where the field lies, or an error. What else VMCLEAR and VMWRITE change in the
 * page, counters or valid bits, does not matter.
 */
static int __init locate(const struct field *f, struct place *p)
{
	unsigned int n = width(f);

	if (p->read == -EIO)	/* there is no such field */
		return -ENOENT;
	if (p->write == -EROFS)
		return p->read;
	if (p->write)
		return -ENOENT;
	if (is_rights(f))
		return find_rights(f, p);
	if (p->read < VMCS_HEADER || p->read + n > vmcs_size ||
	    bytes(over_zeros, p->read, n) != marker(f) || bytes(over_ones, p->read, n) != marker(f))
		return -ENOENT;
	return p->read;
}

static void __init locate_all(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		places[i].offset = locate(&fields[i], &places[i]);
}
