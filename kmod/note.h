/* SPDX-License-Identifier: GPL-2.0-only */
/* The ELF note VMCSINFO: what the experiments found, as text in memory. */
#define NOTE_NAME	"VMCSINFO"

static unsigned int probed_cpu __initdata;
static const char *core_type __initdata;	/* of that one, or NULL */

static char *note;	/* the buffer that is published */
static size_t note_size;

/* How this processor stores access rights, which is the same for all segments. */
static enum rights __init rights(void)
{
	enum rights r = UNKNOWN;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!is_rights(&fields[i]) || !places[i].rights)
			continue;
		if (r && r != places[i].rights)
			return UNKNOWN;
		r = places[i].rights;
	}
	return r;
}

#define emit(...) (len += snprintf(buf ? buf + len : NULL, buf ? size - len : 0, __VA_ARGS__))

/* Writes what the layout depends on to buf. Returns its length, as snprintf() does. */
static size_t __init write_processor(char *buf, size_t size)
{
	const struct cpuinfo_x86 *c = &cpu_data(probed_cpu);
	size_t len = 0;

	emit("CPU_VENDOR=%s\nCPU_FAMILY=%x\nCPU_MODEL=%x\nCPU_STEPPING=%x\nCPU_MICROCODE=%x\n",
	     c->x86_vendor_id, c->x86, c->x86_model, c->x86_stepping, c->microcode);
	if (core_type)
		emit("CPU_TYPE=%s\n", core_type);
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR))
		emit("HYPERVISOR=1\n");
	return len;
}

/* Writes the note's text to buf. Returns its length, as snprintf() does. */
static size_t __init write_text(char *buf, size_t size)
{
	size_t len = 0;
	unsigned int i;

	emit("REVISION_ID=%x\n", revision);
	emit("FORM=%s\n", cells ? "cells" : "offsets");
	if (rights() != UNKNOWN)
		emit("ACCESS_RIGHTS=%s\n", rights_names[rights()]);
	len += write_processor(buf ? buf + len : NULL, buf ? size - len : 0);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (places[i].offset < 0)
			continue;
		if (cells)
			emit("FIELD(%s)=%0*llx\n", fields[i].name,
			     2 * width(&fields[i]), places[i].value);
		else
			emit("FIELD(%s)=%x\n", fields[i].name, places[i].offset);
	}
	return len;
}

/*
 * Makes the note in whole pages that are the kernel's: makedumpfile keeps those at
 * every dump level.
 */
static int __init make_note(void)
{
	size_t head = sizeof(struct elf64_note) + ALIGN(sizeof(NOTE_NAME), 4);
	size_t len = write_text(NULL, 0);
	struct elf64_note *n;

	note_size = PAGE_SIZE << get_order(head + len + 1);
	note = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(note_size));
	if (!note)
		return -ENOMEM;
	n = (struct elf64_note *)note;
	n->n_namesz = sizeof(NOTE_NAME);
	n->n_type = 0;
	memcpy(n + 1, NOTE_NAME, sizeof(NOTE_NAME));
	n->n_descsz = write_text(note + head, note_size - head);
	return 0;
}

static void free_note(void)
{
	memzero_explicit(note, note_size);	/* a search must not find it in a free page */
	free_pages((unsigned long)note, get_order(note_size));
}
