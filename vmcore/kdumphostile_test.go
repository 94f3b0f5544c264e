package vmcore

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

var le = binary.LittleEndian

// TestKDumpHostile: what the headers say may be anything.
func TestKDumpHostile(t *testing.T) {
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
			b := kdumpSpec{edit: tc.edit}.build()
			if tc.cut != 0 {
				b = b[:max(tc.cut, 0)]
			}
			before := allocated()
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
			if _, err := c.ReadPhys(make([]byte, 1), 0); !errors.Is(err, ErrTruncated) {
				t.Errorf("error is %v, want ErrTruncated", err)
			}
			for r := range c.Ranges() {
				t.Errorf("range %v", r)
			}
			if f := c.Verify(); len(f) == 0 {
				t.Error("verify finds nothing")
			}
			if _, err := c.PlanInPlace(End, c.Notes().Append(testVMCSInfo)); !errors.Is(err, ErrNoPlace) {
				t.Errorf("error is %v, want ErrNoPlace", err)
			}
			if n := allocated() - before; n > 4<<20 {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
}

// TestKDumpHostilePages: neither may what descriptors say. Page 1 is zlib's.
func TestKDumpHostilePages(t *testing.T) {
	desc := func(n int, off uint64, size, flags uint32) func([]byte, *kdump.Header) {
		return func(b []byte, h *kdump.Header) {
			d := b[h.DescOff()+int64(n)*plan.DescSize:]
			le.PutUint64(d, off)
			le.PutUint32(d[8:], size)
			le.PutUint32(d[12:], flags)
		}
	}
	end := uint64(len(kdumpSpec{}.build()))
	descOff := uint64(openKDump(t, kdumpSpec{}.build()).DescOff())
	for _, tc := range []struct {
		name string
		edit func([]byte, *kdump.Header)
		cut  int
		is   error
		err  string
	}{
		{name: "offset 0: makedumpfile had no room", edit: desc(1, 0, 100, 1), is: ErrTruncated, err: "never written"},
		{name: "beyond the file", edit: desc(1, 1<<40, 100, 1), is: ErrTruncated, err: "0x64 bytes at 0x10000000000"},
		{name: "a byte beyond the file", edit: desc(1, end-99, 100, 1), is: ErrTruncated},
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
		{name: "cut in the descriptors", cut: int(end-descOff) - plan.DescSize - 10, is: ErrTruncated, err: "page descriptor"},
		{name: "cut in the bitmap", cut: int(end-descOff) + 8192, is: ErrTruncated, err: "bitmap"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := openKDump(t, kdumpSpec{edit: tc.edit, cut: tc.cut}.build())
			n, err := c.ReadPhys(make([]byte, 4096), 4096)
			if n != 0 || err == nil || !strings.Contains(err.Error(), tc.err) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%d bytes, %v, want %q", n, err, tc.err)
			}
			if f := VerifyDeep(t.Context(), kdumpCore{c}); len(f) == 0 || !strings.Contains(f[0].Text+f[len(f)-1].Text, tc.err) {
				t.Errorf("verify finds %v", f)
			}
		})
	}
}

// TestKDumpNotesAsMemory: page data that lies where the notes do is none. A dump
// that is truncated, and has got its notes at the end, would have such pages.
func TestKDumpNotesAsMemory(t *testing.T) {
	b := kdumpSpec{}.build()
	c := openKDump(t, b)
	p, err := c.PlanInPlace(End, c.Notes().Append(testVMCSInfo))
	if err != nil {
		t.Fatal(err)
	}
	j, err := (&kdumpChange{plan: p, base: b}).run(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	desc := make([]byte, 16)
	le.PutUint64(desc, uint64(len(b)))
	le.PutUint32(desc[8:], 100)
	le.PutUint32(desc[12:], kdump.Zlib)
	if _, err := j.WriteAt(desc, c.DescOff()+plan.DescSize); err != nil {
		t.Fatal(err)
	}
	after, err := kdump.Open(j.now(), j.now().length())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.ReadPhys(make([]byte, 1), 4096); err == nil || !strings.Contains(err.Error(), "expected data apart from the notes") {
		t.Errorf("error is %v", err)
	}
}

// TestKDumpVerify: what the other tests of hostile dumps do not make it find.
func TestKDumpVerify(t *testing.T) {
	sub := func(at int64, v uint64) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint64(b[4096+at:], v) }
	}
	typed := testVMCSInfo
	typed.Type = 1
	for _, tc := range []struct {
		name string
		spec kdumpSpec
		text string
	}{
		{"incomplete", kdumpSpec{status: kdump.StatusIncomplete}, "could not finish"},
		{"vmemmap", kdumpSpec{status: kdump.StatusExcludedVmemmap}, "makedumpfile -e"},
		{"pages of QEMU for arm64, and a kernel of smaller ones", kdumpSpec{blockSize: 64 << 10, kernelPage: 4096}, "block_size at offset 0x1ac is 0x10000, expected 0x1000"},
		{"split", kdumpSpec{split: [2]uint64{64, 32769}}, "PFNs 0x40 to 0x8000"},
		{"version 3", kdumpSpec{version: 3}, "header_version is 3"},
		{"zero fill", kdumpSpec{fill: 20}, "20 bytes of zero fill"},
		{"two of them", kdumpSpec{notes: []elfnote.Note{testVMCSInfo, testVMCSInfo}}, "a second VMCSINFO note"},
		{"a CPU without registers", kdumpSpec{notes: []elfnote.Note{{Name: "CORE", Type: 1}}}, "holds 0 bytes, expected "},
		{"a type of its own", kdumpSpec{notes: []elfnote.Note{typed}}, "is of type 0x1, expected 0"},
		{"VMCOREINFO elsewhere", kdumpSpec{edit: sub(32, 4096+1024)}, "expected a place within the notes"},
		{"VMCOREINFO at another note", kdumpSpec{edit: sub(32, 4096+104+20)}, "as the note has it"},
		{"eraseinfo beyond the file", kdumpSpec{erase: "x", edit: sub(64, 1<<40)}, "eraseinfo (0x1 bytes at 0x10000000000) reaches beyond"},
		{"eraseinfo in the notes", kdumpSpec{erase: "x", edit: sub(64, 4096+200)}, "expected bytes apart from eraseinfo"},
		{"bad pages without end", kdumpSpec{pages: seq(1000), edit: func(b []byte, h *kdump.Header) {
			clear(b[h.DescOff() : h.DescOff()+1000*plan.DescSize])
		}}, "990 pages more"},
		{"bad data without end", kdumpSpec{pages: seq(1000), edit: func(b []byte, h *kdump.Header) {
			clear(b[h.DescOff()+1000*plan.DescSize:])
		}}, "790 pages more"}, // uncompressed ones cannot be told
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all strings.Builder
			found := VerifyDeep(t.Context(), kdumpCore{openKDump(t, tc.spec.build())})
			for _, f := range found {
				all.WriteString(f.Text + "\n")
			}
			if !strings.Contains(all.String(), tc.text) || len(found) > 2*kdump.MaxPageFindings {
				t.Errorf("it finds %s", all.String())
			}
		})
	}
}

func seq(n uint64) (s []uint64) {
	for i := range n {
		s = append(s, i)
	}
	return s
}
