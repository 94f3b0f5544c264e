package cli_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// kdump makes of an ELF core the dump that makedumpfile -c would: its pages
// after the header and sub header of a real dump, whose notes it has. With
// filtered, without the memory of the processes that run guests, as by -d 8;
// with damaged, with the data of its first page spoilt.
func kdump(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 3)
	const block = 4096
	im := testcores.Image(tb(ts), "kdump/deb-t1.kdump-zstd")
	head := make([]byte, 64<<10)
	_, err := im.ReadAt(head, 0)
	ts.Check(err)
	le := binary.LittleEndian
	head = head[:block*(1+int(le.Uint32(head[432:])))] // header and sub_hdr_size
	c, err := vmcore.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	var pfns []uint64
	var mapnr uint64
	for r := range c.Ranges() {
		for pfn := r.Addr / block; pfn < (r.Addr+r.Size)/block; pfn++ {
			pfns = append(pfns, pfn)
			mapnr = pfn + 1
		}
	}
	left := make(map[uint64]bool)
	if len(args) == 3 && args[2] == "filtered" {
		left = processPages(ts, c)
	}
	known := make([]byte, (mapnr+8*block-1)/(8*block)*block)
	bitmap := make([]byte, len(known))
	for _, pfn := range pfns {
		known[pfn/8] |= 1 << (pfn % 8)
	}
	pfns = slices.DeleteFunc(pfns, func(pfn uint64) bool { return left[pfn] })
	le.PutUint32(head[436:], uint32(2*len(bitmap)/block))
	le.PutUint32(head[440:], uint32(mapnr))
	le.PutUint64(head[block+96:], mapnr)
	var descs, data []byte
	off := len(head) + 2*len(bitmap) + 24*len(pfns)
	var small bytes.Buffer
	w, page := zlib.NewWriter(&small), make([]byte, block)
	for _, pfn := range pfns {
		bitmap[pfn/8] |= 1 << (pfn % 8)
		_, err := c.ReadPhys(page, pfn*block)
		ts.Check(err)
		small.Reset()
		w.Reset(&small)
		w.Write(page)
		w.Close()
		flags := uint32(1) // zlib
		if small.Len() >= block {
			small.Reset()
			small.Write(page)
			flags = 0
		}
		descs = le.AppendUint64(descs, uint64(off+len(data)))
		descs = le.AppendUint32(descs, uint32(small.Len()))
		descs = le.AppendUint32(descs, flags)
		descs = le.AppendUint64(descs, 0)
		data = append(data, small.Bytes()...)
	}
	if len(args) == 3 && args[2] == "damaged" {
		data[0], data[1] = 0xff, 0xff // where zlib's header was
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), bytes.Join([][]byte{head, known, bitmap, descs, data}, nil), 0o600))
}

// processPages are the pages of the processes that run guests.
func processPages(ts *testscript.TestScript, c vmcore.Core) map[uint64]bool {
	pages := make(map[uint64]bool)
	for _, m := range hostMachines(ts, c) {
		cr3, _ := m.VCPUs[0].Field("HOST_CR3")
		cr4, _ := m.VCPUs[0].Field("HOST_CR4")
		for page, err := range guest.NewProcess(c, cr3, cr4).Mappings() {
			for off := uint64(0); err == nil && off < page.Size; off += 4096 {
				pages[(page.Phys+off)/4096] = true
			}
		}
	}
	if len(pages) == 0 {
		ts.Fatalf("no processes")
	}
	return pages
}

// flatten makes of a dump the stream that makedumpfile -F writes.
func flatten(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	in, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer in.Close()
	be := binary.BigEndian
	out := make([]byte, 4096)
	copy(out, "makedumpfile")
	be.PutUint64(out[16:], 1) // type
	be.PutUint64(out[24:], 1) // version
	buf := make([]byte, 1<<20)
	for off := 0; ; {
		n, err := io.ReadFull(in, buf)
		if n == 0 {
			break
		}
		if err != io.ErrUnexpectedEOF {
			ts.Check(err)
		}
		out = be.AppendUint64(out, uint64(off))
		out = be.AppendUint64(out, uint64(n))
		out = append(out, buf[:n]...)
		off += n
	}
	out = be.AppendUint64(out, 1<<64-1)
	out = be.AppendUint64(out, 1<<64-1)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out, 0o600))
}
