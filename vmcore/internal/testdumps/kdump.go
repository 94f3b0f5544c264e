// Package testdumps makes dumps for tests of vmcore and of its containers, and
// reads golden ones.
package testdumps

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

// A KDump describes a kdump-compressed dump to be made for a test. Zero
// fields stand for a usual one: 64-bit, little-endian, version 6.
type KDump struct {
	ABI        *kdump.ABI
	Order      binary.ByteOrder
	Version    int
	BlockSize  int
	KernelPage int // PAGESIZE in VMCOREINFO; 0 for BlockSize
	SubBlocks  int // 0: as few as will do
	MaxMapnr   uint64
	There      []uint64 // PFNs in memory besides those in the dump
	Pages      []uint64 // PFNs in the dump; nil for some of all kinds
	Split      [2]uint64
	NoNotes    bool
	NoInfo     bool // no VMCOREINFO among the notes
	Notes      []elfnote.Note
	Fill       int // bytes of zero fill within the notes
	Erase      string
	Status     uint32
	Cut        int // bytes off the end
	Edit       func(b []byte, h *kdump.Header)
}

// Pages are PFNs at the edges of words and of chunks of the bitmap.
var Pages = []uint64{0, 1, 2, 7, 8, 63, 64, 65, 127, 200, 320, 32767, 32768, 32769, 40000}

// MaxPFN is after the last of them.
const MaxPFN = 40001

// Page is what a page of a dump made for a test holds.
func Page(pfn uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "page %#9x.", pfn+1)[:16:16], size/16)
}

// Build makes the dump.
func (s KDump) Build() []byte {
	if s.ABI == nil {
		s.ABI = kdump.ABI64
	}
	if s.Order == nil {
		s.Order = binary.LittleEndian
	}
	if s.Version == 0 {
		s.Version = 6
	}
	if s.BlockSize == 0 {
		s.BlockSize = 4096
	}
	if s.MaxMapnr == 0 {
		s.MaxMapnr = MaxPFN
	}
	if s.Pages == nil {
		s.Pages = Pages
	}
	if s.Split == [2]uint64{} {
		s.Split[1] = s.MaxMapnr
	}
	h := &kdump.Header{Order: s.Order, Version: s.Version, BlockSize: int64(s.BlockSize), ABI: s.ABI}
	var notes []byte
	infoAt, infoSize := 0, 0
	if s.Version >= kdump.NotesVersion && !s.NoNotes {
		notes = elfnote.Note{Name: "CORE", Type: 1, Desc: bytes.Repeat([]byte{1}, 336)}.Encode(s.Order)
		if !s.NoInfo {
			info := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: fmt.Appendf(nil, "OSRELEASE=6.1.0\nPAGESIZE=%d\n", cmp.Or(s.KernelPage, s.BlockSize))}
			infoAt, infoSize = len(notes)+24, len(info.Desc)
			notes = append(notes, info.Encode(s.Order)...)
		}
		for _, n := range s.Notes {
			notes = append(notes, n.Encode(s.Order)...)
		}
		notes = append(notes, make([]byte, s.Fill)...)
	}
	h.SubHdrBlocks = plan.RoundUp(s.ABI.SubSize+int64(len(notes)), h.BlockSize) / h.BlockSize
	h.SubHdrBlocks = max(h.SubHdrBlocks, int64(s.SubBlocks))
	half := plan.RoundUp(int64(s.MaxMapnr+7)/8, h.BlockSize)
	h.BitmapBlocks = 2 * half / h.BlockSize

	b := make([]byte, h.DescOff())
	copy(b, kdump.Signature)
	put := func(at int64, v uint64) { s.Order.PutUint32(b[at:], uint32(v)) }
	put(8, uint64(s.Version))
	copy(b[12:], "Linux")
	for i, v := range []uint64{uint64(s.Status), uint64(s.BlockSize), uint64(h.SubHdrBlocks), uint64(h.BitmapBlocks), s.MaxMapnr} {
		put(s.ABI.Status+4*int64(i), v)
	}
	sub := b[h.SubOff():]
	copy(sub[s.ABI.SubSize:], notes)
	if s.Version >= 3 && infoSize > 0 {
		h.PutExtent(sub[s.ABI.Info:], plan.Extent{Off: uint64(h.Home()) + uint64(infoAt), Size: uint64(infoSize)})
	}
	if len(notes) > 0 {
		h.PutExtent(sub[s.ABI.Note:], plan.Extent{Off: uint64(h.Home()), Size: uint64(len(notes))})
	}
	if s.Split[0] > 0 || s.Split[1] < s.MaxMapnr {
		s.Order.PutUint32(sub[s.ABI.Split:], 1)
	}
	if s.Version >= 6 {
		for i, v := range []uint64{s.Split[0], s.Split[1], s.MaxMapnr} {
			s.Order.PutUint64(sub[s.ABI.StartPFN64+int64(i)*8:], v)
		}
	}

	var descs, data []byte
	mine := 0
	for _, pfn := range s.Pages {
		if pfn >= s.Split[0] && pfn < s.Split[1] {
			mine++
		}
	}
	dataOff := int(h.DescOff()) + mine*plan.DescSize
	for i, pfn := range s.Pages {
		b[h.BitmapOff()+half+int64(pfn/8)] |= 1 << (pfn % 8)
		if pfn < s.Split[0] || pfn >= s.Split[1] {
			continue
		}
		flags := Methods[i%len(Methods)]
		page := Deflate(Page(pfn, s.BlockSize), flags)
		d := make([]byte, plan.DescSize)
		s.Order.PutUint64(d, uint64(dataOff+len(data)))
		s.Order.PutUint32(d[8:], uint32(len(page)))
		s.Order.PutUint32(d[12:], flags)
		descs, data = append(descs, d...), append(data, page...)
	}
	for _, pfn := range append(slices.Clone(s.There), s.Pages...) {
		b[h.BitmapOff()+int64(pfn/8)] |= 1 << (pfn % 8)
	}
	b = slices.Concat(b, descs, data)
	if s.Erase != "" {
		h.PutExtent(b[h.SubOff()+s.ABI.Erase:], plan.Extent{Off: uint64(len(b)), Size: uint64(len(s.Erase))})
		b = append(b, s.Erase...)
	}
	if s.Edit != nil {
		s.Edit(b, h)
	}
	return b[:len(b)-s.Cut]
}

// KDumps are sound dumps of all kinds, of which each is some KB.
var KDumps = map[string]KDump{
	"64":              {},
	"64-room":         {SubBlocks: 3},
	"64-be":           {Order: binary.BigEndian, SubBlocks: 3},
	"64k-pages":       {BlockSize: 64 << 10},
	"32-packed":       {ABI: kdump.ABI32Packed},
	"32-padded":       {ABI: kdump.ABI32Padded},
	"32-padded-be":    {ABI: kdump.ABI32Padded, Order: binary.BigEndian, SubBlocks: 2},
	"version-4":       {Version: 4, MaxMapnr: 40001},
	"version-5-erase": {Version: 5, Erase: "erase x\n"},
	"erase":           {Erase: "erase jiffies\n", There: []uint64{3, 5000}},
	"split":           {Split: [2]uint64{65, 32769}, SubBlocks: 2},
	"erase-nowhere": {Split: [2]uint64{2, 3}, Edit: func(b []byte, h *kdump.Header) {
		h.PutExtent(b[h.SubOff()+h.ABI.Erase:], plan.Extent{Off: 0, Size: 0x42c0})
	}},
	"no-notes":           {NoNotes: true},
	"no-vmcoreinfo":      {NoInfo: true},
	"vmcsinfo":           {Notes: []elfnote.Note{VMCSInfo, {Name: "OTHER", Desc: []byte("x")}}, SubBlocks: 3},
	"fill":               {Fill: 100, SubBlocks: 2},
	"full":               {Notes: []elfnote.Note{{Name: "FILL", Desc: make([]byte, 4096-104-(12+8+336)-(12+12+32)-(12+8))}}},
	"incomplete":         {Status: kdump.StatusIncomplete},
	"sparse-no-page-set": {Pages: []uint64{}, There: []uint64{1, 2}},
}

// LiveKDump is a live system's dump: the memory had more pages to dump when
// they were written than when they were counted, so that page data, that of the
// pages of zeros first, begins before the descriptors end.
var LiveKDump = KDump{Edit: func(b []byte, h *kdump.Header) {
	const more = 2 // descriptors where the page of zeros is
	at := h.DescOff() + int64(len(Pages)-more)*plan.DescSize
	for _, i := range []int64{0, 3, 5} {
		d := b[h.DescOff()+i*plan.DescSize:]
		h.Order.PutUint64(d, uint64(at))
		h.Order.PutUint32(d[8:], uint32(h.BlockSize))
		h.Order.PutUint32(d[12:], kdump.Raw)
	}
}}

// VMCSInfo is a note to add.
var VMCSInfo = elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_ES_SELECTOR)=0500\n")}

// KDumpFiles are dumps that makedumpfile 1.7.9 made.
var KDumpFiles = []string{
	"cloud-c1.kdump-zlib", "cloud-c1.kdump-lzo", "cloud-c1.kdump-snappy", "cloud-c1.kdump-zstd",
	"deb-t1.kdump-lzo", "deb-t1.kdump-zstd",
}

// AllKDumps returns all of KDumps and KDumpFiles.
func AllKDumps(t testing.TB) map[string][]byte {
	cores := map[string][]byte{}
	for name, s := range KDumps {
		cores[name] = s.Build()
	}
	for _, name := range KDumpFiles {
		cores[name] = KDumpFile(t, name)
	}
	return cores
}

// KDumpFile returns a golden dump.
func KDumpFile(t testing.TB, name string) []byte {
	t.Helper()
	return testcores.Bytes(t, "kdump/"+name)
}

// OpenKDump opens a dump.
func OpenKDump(t testing.TB, b []byte) *kdump.Dump {
	t.Helper()
	c, err := kdump.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
