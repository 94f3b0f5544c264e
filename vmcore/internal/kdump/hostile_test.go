package kdump_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestHostile: what the headers say may be anything.
func TestHostile(t *testing.T) {
	put32 := func(at int64, v uint32) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint32(b[at:], v) }
	}
	sub := func(at int64, v uint64) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint64(b[4096+at:], v) }
	}
	for _, tc := range []struct {
		name string
		edit func([]byte, *kdump.Header)
		cut  int64 // where the file ends
		err  string
	}{
		{name: "diskdump", edit: func(b []byte, _ *kdump.Header) { copy(b, "DISKDUMP") }, err: "signature at offset 0x0: found \"DISKDUMP\""},
		{name: "another signature", edit: func(b []byte, _ *kdump.Header) { copy(b, "KDUMQ") }, err: `signature at offset 0x0: found "KDUMQ   "`},
		{name: "empty", cut: -1, err: "signature"},
		{name: "cut in the header", cut: 200, err: "found the end of the file at 0xc8, expected 0x1d0 bytes"},
		{name: "cut before the sub header", cut: 4096, err: "sub header at offset 0x1000: found the end of the file at 0x1000"},
		{name: "cut in the sub header", cut: 4096 + 50, err: "sub header at offset 0x1000: found the end of the file at 0x1032"},
		{name: "cut in the notes", cut: 4096 + 150, err: "offset_note at offset 0x1030"},
		{name: "version 7", edit: put32(8, 7), err: "header_version at offset 0x8: found 7, expected at most 6"},
		{name: "block_size 0", edit: put32(428, 0), err: "block_size at offset 0x1ac: found 0x0"},
		{name: "block_size 512", edit: put32(428, 512), err: "block_size at offset 0x1ac: found 0x200"},
		{name: "block_size no power of two", edit: put32(428, 5000), err: "block_size at offset 0x1ac: found 0x1388"},
		{name: "block_size 4 GiB - 4 KiB", edit: put32(428, 0xfffff000), err: "block_size at offset 0x1ac: found 0xfffff000"},
		{name: "sub_hdr_size 0", edit: put32(432, 0), err: "sub_hdr_size at offset 0x1b0: found 0"},
		{name: "sub_hdr_size -1", edit: put32(432, math.MaxUint32)},
		{name: "bitmap_blocks 0", edit: put32(436, 0), err: "bitmap_blocks at offset 0x1b4: found 0"},
		{name: "bitmaps beyond the file", edit: put32(436, math.MaxUint32)},
		{name: "max_mapnr beyond the bitmap", edit: sub(96, 4*4096*8+1), err: "max_mapnr at offset 0x1b8: found 0x20001, expected at most 0x20000"},
		{name: "max_mapnr 2^63", edit: sub(96, 1<<63), err: "max_mapnr at offset 0x1b8: found 0x8000000000000000"},
		{name: "offset_note beyond the file", edit: sub(48, 1<<40), err: "offset_note at offset 0x1030: found 0x19c bytes at 0x10000000000"},
		{name: "offset_note 2^63", edit: sub(48, 1<<63), err: "offset_note at offset 0x1030"},
		{name: "offset_note -1", edit: sub(48, math.MaxUint64), err: "offset_note at offset 0x1030"},
		{name: "size_note 2^63", edit: sub(56, 1<<63), err: "size_note at offset 0x1038"},
		{name: "size_note beyond the file", edit: sub(56, 1<<29), err: "offset_note at offset 0x1030"},
		{name: "offset_note at the header", edit: sub(48, 0), err: "n_namesz"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := testdumps.KDump{Edit: tc.edit}.Build()
			if tc.cut != 0 {
				b = b[:max(tc.cut, 0)]
			}
			before := testdumps.Allocated()
			c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
			if tc.err != "" {
				if c != nil || err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error is %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// It opens, but memory is not to be had.
			if _, err := c.ReadPhys(make([]byte, 1), 0); !errors.Is(err, plan.ErrTruncated) {
				t.Errorf("error is %v, want plan.ErrTruncated", err)
			}
			for r := range c.Ranges() {
				t.Errorf("range %v", r)
			}
			if f := c.Verify(); len(f) == 0 {
				t.Error("verify finds nothing")
			}
			if _, err := c.PlanInPlace(plan.End, c.Notes().Append(testdumps.VMCSInfo)); !errors.Is(err, plan.ErrNoPlace) {
				t.Errorf("error is %v, want plan.ErrNoPlace", err)
			}
			if n := testdumps.Allocated() - before; n > 4<<20 {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
}

// TestHostilePages: neither may what descriptors say. Page 1 is zlib's.
func TestHostilePages(t *testing.T) {
	desc := func(n int, off uint64, size, flags uint32) func([]byte, *kdump.Header) {
		return func(b []byte, h *kdump.Header) {
			d := b[h.DescOff()+int64(n)*plan.DescSize:]
			le.PutUint64(d, off)
			le.PutUint32(d[8:], size)
			le.PutUint32(d[12:], flags)
		}
	}
	end := uint64(len(testdumps.KDump{}.Build()))
	descOff := uint64(testdumps.OpenKDump(t, testdumps.KDump{}.Build()).DescOff())
	for _, tc := range []struct {
		name string
		edit func([]byte, *kdump.Header)
		cut  int
		is   error
		err  string
	}{
		{name: "offset 0: makedumpfile had no room", edit: desc(1, 0, 100, 1), is: plan.ErrTruncated, err: "never written"},
		{name: "beyond the file", edit: desc(1, 1<<40, 100, 1), is: plan.ErrTruncated, err: "0x64 bytes at 0x10000000000"},
		{name: "a byte beyond the file", edit: desc(1, end-99, 100, 1), is: plan.ErrTruncated},
		{name: "offset 2^63", edit: desc(1, 1<<63, 100, 1), err: "expected an end below 2^63"},
		{name: "offset -1", edit: desc(1, math.MaxUint64, 100, 1), err: "expected an end below 2^63"},
		{name: "at the descriptors", edit: desc(1, descOff, 100, 1), err: ", after the descriptors"},
		{name: "at the notes", edit: desc(1, 4096, 100, 1), err: ", after the descriptors"},
		{name: "size 0", edit: desc(1, end-100, 0, 1), err: "size of page data"},
		{name: "size of two pages", edit: desc(1, end-8192, 8192, 1), err: "size of page data"},
		{name: "size 4 GiB - 1", edit: desc(1, end-100, math.MaxUint32, 1), err: "size of page data"},
		{name: "uncompressed, and less than a page", edit: desc(1, end-100, 100, 0), err: "size of page data"},
		{name: "not what it says to be", edit: desc(1, end-100, 100, 1), err: "zlib: "},
		{name: "two methods", edit: desc(1, end-100, 100, 0x21), err: "more than one compression"},
		{name: "cut in the descriptors", cut: int(end-descOff) - plan.DescSize - 10, is: plan.ErrTruncated, err: "page descriptor"},
		{name: "cut in the bitmap", cut: int(end-descOff) + 8192, is: plan.ErrTruncated, err: "bitmap"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testdumps.OpenKDump(t, testdumps.KDump{Edit: tc.edit, Cut: tc.cut}.Build())
			n, err := c.ReadPhys(make([]byte, 4096), 4096)
			if n != 0 || err == nil || !strings.Contains(err.Error(), tc.err) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%d bytes, %v, want %q", n, err, tc.err)
			}
			if f := verifyDeep(t, c); len(f) == 0 || !strings.Contains(f[0].Text+f[len(f)-1].Text, tc.err) {
				t.Errorf("verify finds %v", f)
			}
		})
	}
}
