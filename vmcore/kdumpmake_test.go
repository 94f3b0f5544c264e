package vmcore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// A kdumpSpec describes a kdump-compressed dump to be made for a test. Zero
// fields stand for a usual one: 64-bit, little-endian, version 6.
type kdumpSpec struct {
	abi        *kdump.ABI
	order      binary.ByteOrder
	version    int
	blockSize  int
	kernelPage int // PAGESIZE in VMCOREINFO; 0 for blockSize
	subBlocks  int // 0: as few as will do
	maxMapnr   uint64
	there      []uint64 // PFNs that there are, beside those in the dump
	pages      []uint64 // PFNs in the dump; nil for some of all kinds
	split      [2]uint64
	noNotes    bool
	noInfo     bool // no VMCOREINFO among the notes
	notes      []elfnote.Note
	fill       int // bytes of zero fill within the notes
	erase      string
	status     uint32
	cut        int // bytes off the end
	edit       func(b []byte, h *kdump.Header)
}

// kdumpPages are PFNs at the edges of words and of chunks of the bitmap.
var kdumpPages = []uint64{0, 1, 2, 7, 8, 63, 64, 65, 127, 200, 320, 32767, 32768, 32769, 40000}

const kdumpMax = 40001

// kdumpPage is what a page of a dump made for a test holds.
func kdumpPage(pfn uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "page %#9x.", pfn+1)[:16:16], size/16)
}

func (s kdumpSpec) build() []byte {
	if s.abi == nil {
		s.abi = kdump.ABI64
	}
	if s.order == nil {
		s.order = binary.LittleEndian
	}
	if s.version == 0 {
		s.version = 6
	}
	if s.blockSize == 0 {
		s.blockSize = 4096
	}
	if s.maxMapnr == 0 {
		s.maxMapnr = kdumpMax
	}
	if s.pages == nil {
		s.pages = kdumpPages
	}
	if s.split == [2]uint64{} {
		s.split[1] = s.maxMapnr
	}
	h := &kdump.Header{Order: s.order, Version: s.version, BlockSize: int64(s.blockSize), ABI: s.abi}
	var notes []byte
	infoAt, infoSize := 0, 0
	if s.version >= kdump.NotesVersion && !s.noNotes {
		notes = elfnote.Note{Name: "CORE", Type: 1, Desc: bytes.Repeat([]byte{1}, 336)}.Encode(s.order)
		if !s.noInfo {
			info := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: fmt.Appendf(nil, "OSRELEASE=6.1.0\nPAGESIZE=%d\n", cmp.Or(s.kernelPage, s.blockSize))}
			infoAt, infoSize = len(notes)+24, len(info.Desc)
			notes = append(notes, info.Encode(s.order)...)
		}
		for _, n := range s.notes {
			notes = append(notes, n.Encode(s.order)...)
		}
		notes = append(notes, make([]byte, s.fill)...)
	}
	h.SubHdrBlocks = plan.RoundUp(s.abi.SubSize+int64(len(notes)), h.BlockSize) / h.BlockSize
	h.SubHdrBlocks = max(h.SubHdrBlocks, int64(s.subBlocks))
	half := plan.RoundUp(int64(s.maxMapnr+7)/8, h.BlockSize)
	h.BitmapBlocks = 2 * half / h.BlockSize

	b := make([]byte, h.DescOff())
	copy(b, kdump.Signature)
	put := func(at int64, v uint64) { s.order.PutUint32(b[at:], uint32(v)) }
	put(8, uint64(s.version))
	copy(b[12:], "Linux")
	for i, v := range []uint64{uint64(s.status), uint64(s.blockSize), uint64(h.SubHdrBlocks), uint64(h.BitmapBlocks), s.maxMapnr} {
		put(s.abi.Status+4*int64(i), v)
	}
	sub := b[h.SubOff():]
	copy(sub[s.abi.SubSize:], notes)
	if s.version >= 3 && infoSize > 0 {
		h.PutExtent(sub[s.abi.Info:], plan.Extent{Off: uint64(h.Home()) + uint64(infoAt), Size: uint64(infoSize)})
	}
	if len(notes) > 0 {
		h.PutExtent(sub[s.abi.Note:], plan.Extent{Off: uint64(h.Home()), Size: uint64(len(notes))})
	}
	if s.split[0] > 0 || s.split[1] < s.maxMapnr {
		s.order.PutUint32(sub[s.abi.Split:], 1)
	}
	if s.version >= 6 {
		for i, v := range []uint64{s.split[0], s.split[1], s.maxMapnr} {
			s.order.PutUint64(sub[s.abi.StartPFN64+int64(i)*8:], v)
		}
	}

	var descs, data []byte
	mine := 0
	for _, pfn := range s.pages {
		if pfn >= s.split[0] && pfn < s.split[1] {
			mine++
		}
	}
	dataOff := int(h.DescOff()) + mine*plan.DescSize
	for i, pfn := range s.pages {
		b[h.BitmapOff()+half+int64(pfn/8)] |= 1 << (pfn % 8)
		if pfn < s.split[0] || pfn >= s.split[1] {
			continue
		}
		flags := methods[i%len(methods)]
		page := deflate(kdumpPage(pfn, s.blockSize), flags)
		d := make([]byte, plan.DescSize)
		s.order.PutUint64(d, uint64(dataOff+len(data)))
		s.order.PutUint32(d[8:], uint32(len(page)))
		s.order.PutUint32(d[12:], flags)
		descs, data = append(descs, d...), append(data, page...)
	}
	for _, pfn := range append(slices.Clone(s.there), s.pages...) {
		b[h.BitmapOff()+int64(pfn/8)] |= 1 << (pfn % 8)
	}
	b = slices.Concat(b, descs, data)
	if s.erase != "" {
		h.PutExtent(b[h.SubOff()+s.abi.Erase:], plan.Extent{Off: uint64(len(b)), Size: uint64(len(s.erase))})
		b = append(b, s.erase...)
	}
	if s.edit != nil {
		s.edit(b, h)
	}
	return b[:len(b)-s.cut]
}

// kdumpSpecs are sound dumps of all kinds, of which each is some KB.
var kdumpSpecs = map[string]kdumpSpec{
	"64":              {},
	"64-room":         {subBlocks: 3},
	"64-be":           {order: binary.BigEndian, subBlocks: 3},
	"64k-pages":       {blockSize: 64 << 10},
	"32-packed":       {abi: kdump.ABI32Packed},
	"32-padded":       {abi: kdump.ABI32Padded},
	"32-padded-be":    {abi: kdump.ABI32Padded, order: binary.BigEndian, subBlocks: 2},
	"version-4":       {version: 4, maxMapnr: 40001},
	"version-5-erase": {version: 5, erase: "erase x\n"},
	"erase":           {erase: "erase jiffies\n", there: []uint64{3, 5000}},
	"split":           {split: [2]uint64{65, 32769}, subBlocks: 2},
	"erase-nowhere": {split: [2]uint64{2, 3}, edit: func(b []byte, h *kdump.Header) {
		h.PutExtent(b[h.SubOff()+h.ABI.Erase:], plan.Extent{Off: 0, Size: 0x42c0})
	}},
	"no-notes":           {noNotes: true},
	"no-vmcoreinfo":      {noInfo: true},
	"vmcsinfo":           {notes: []elfnote.Note{testVMCSInfo, {Name: "OTHER", Desc: []byte("x")}}, subBlocks: 3},
	"fill":               {fill: 100, subBlocks: 2},
	"full":               {notes: []elfnote.Note{{Name: "FILL", Desc: make([]byte, 4096-104-(12+8+336)-(12+12+32)-(12+8))}}},
	"incomplete":         {status: kdump.StatusIncomplete},
	"sparse-no-page-set": {pages: []uint64{}, there: []uint64{1, 2}},
}

var testVMCSInfo = elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_ES_SELECTOR)=0500\n")}

// kdumpFiles are dumps that makedumpfile 1.7.9 made.
var kdumpFiles = []string{
	"cloud-c1.kdump-zlib", "cloud-c1.kdump-lzo", "cloud-c1.kdump-snappy", "cloud-c1.kdump-zstd",
	"deb-t1.kdump-lzo", "deb-t1.kdump-zstd",
}

// kdumpCores returns all of kdumpSpecs and kdumpFiles.
func kdumpCores(t testing.TB) map[string][]byte {
	cores := map[string][]byte{}
	for name, s := range kdumpSpecs {
		cores[name] = s.build()
	}
	for _, name := range kdumpFiles {
		cores[name] = kdumpFile(t, name)
	}
	return cores
}

func kdumpFile(t testing.TB, name string) []byte {
	t.Helper()
	im := testcores.Image(t, "kdump/"+name)
	b := make([]byte, im.Size())
	if _, err := im.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func openKDump(t testing.TB, b []byte) *kdump.Dump {
	t.Helper()
	c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
