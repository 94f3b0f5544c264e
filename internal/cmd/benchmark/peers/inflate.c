/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inflates the pages of a kdump-compressed dump (little-endian, 64 bits) with
 * libdeflate, liblzo2, libsnappy or libzstd, one page at a time, and prints the
 * CPU time that this took. vmcsnote's decompressors are compared with it.
 *
 *	inflate DUMP ROUNDS
 */
#include <libdeflate.h>
#include <lzo/lzo1x.h>
#include <snappy-c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

enum { BLOCK = 4096, DESC = 24, ZLIB = 0x1, LZO = 0x2, SNAPPY = 0x4, ZSTD = 0x20 };

static void fail(const char *why)
{
	fprintf(stderr, "inflate: error: %s\n", why);
	exit(1);
}

/* get reads a little-endian number of n bytes. */
static uint64_t get(const unsigned char *p, int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static double cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static unsigned char out[BLOCK];
	struct libdeflate_decompressor *deflate = libdeflate_alloc_decompressor();
	ZSTD_DCtx *zstd = ZSTD_createDCtx();
	unsigned char *dump;
	FILE *f;
	long size;

	if (argc != 3)
		fail("usage: inflate DUMP ROUNDS");
	f = fopen(argv[1], "rb");
	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < BLOCK)
		fail("no dump");
	rewind(f);
	dump = malloc(size);
	if (!deflate || !zstd || lzo_init() != LZO_E_OK || !dump || fread(dump, 1, size, f) != (size_t)size)
		fail("cannot read the dump");

	/* struct disk_dump_header has these at 432 and 436 */
	uint64_t first = BLOCK * (1 + get(dump + 432, 4) + get(dump + 436, 4));
	double start = cpu();

	for (int round = atoi(argv[2]); round > 0; round--) {
		uint64_t end = size; /* of the descriptors: where the first page begins */

		for (uint64_t at = first; at + DESC <= end; at += DESC) {
			uint64_t off = get(dump + at, 8);
			uint64_t n = get(dump + at + 8, 4), got = BLOCK;
			unsigned flags = get(dump + at + 12, 4);

			if (off > (uint64_t)size || n > size - off)
				fail("page data beyond the end");
			if (at == first)
				end = off;
			if (flags & ZLIB) {
				if (libdeflate_zlib_decompress(deflate, dump + off, n, out, BLOCK, NULL))
					fail("libdeflate");
			} else if (flags & LZO) {
				lzo_uint lzo = BLOCK;

				if (lzo1x_decompress_safe(dump + off, n, out, &lzo, NULL) != LZO_E_OK)
					fail("liblzo2");
				got = lzo;
			} else if (flags & SNAPPY) {
				size_t snappy = BLOCK;

				if (snappy_uncompress((char *)dump + off, n, (char *)out, &snappy) != SNAPPY_OK)
					fail("libsnappy");
				got = snappy;
			} else if (flags & ZSTD) {
				got = ZSTD_decompressDCtx(zstd, out, BLOCK, dump + off, n);
			} else if (n == BLOCK) {
				memcpy(out, dump + off, n);
			}
			if (got != BLOCK)
				fail("not a page");
		}
	}
	printf("%.6fs\n", cpu() - start);
	return 0;
}
