package vmcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

const (
	kdumpSignature = "KDUMP   "

	// maxKDumpVersion is what makedumpfile writes since 1.5.1, and QEMU: no
	// writer or reader knows of a later one.
	maxKDumpVersion = 6
	// notesVersion is the first header_version with notes in the dump.
	notesVersion = 4

	// kdumpHeaderSize is that of struct disk_dump_header on 64-bit machines.
	kdumpHeaderSize = 464

	// Page sizes that libkdumpfile takes for one, too.
	minBlockSize = 4 << 10
	maxBlockSize = 256 << 10
	// maxMapnr bounds the bitmaps: 2^48 bytes of memory, in pages of 4 KiB.
	maxMapnr = 1 << 36
)

// Is reports whether r begins as a kdump-compressed dump does.
func isKDump(r io.ReaderAt) bool {
	b := make([]byte, len(kdumpSignature))
	n, _ := r.ReadAt(b, 0)
	return n == len(b) && string(b) == kdumpSignature
}

// Bits in status (DUMP_DH_...). The lower ones say how pages are compressed;
// readers go by each page's own flags.
const (
	statusIncomplete      = 0x8  // makedumpfile ran out of room
	statusExcludedVmemmap = 0x10 // makedumpfile -e
)

// A KDumpHeader is the header (struct disk_dump_header) and the sub header
// (struct kdump_sub_header) of a kdump-compressed dump. Fields that its version
// does not have are 0.
type KDumpHeader struct {
	Order        binary.ByteOrder
	Version      int    // header_version
	Status       uint32 // DUMP_DH_... bits
	BlockSize    int64  // block_size: bytes in a page, and what the file's parts are rounded to
	SubHdrBlocks int64  // sub_hdr_size, blocks
	BitmapBlocks int64  // bitmap_blocks, blocks of all bitmaps together
	MaxMapnr     uint64 // max_mapnr_64, before version 6 max_mapnr: 1 + the highest PFN
	Split        bool   // split: a piece by makedumpfile --split, for PFNs from StartPFN up to EndPFN
	StartPFN     uint64 // start_pfn_64, before version 6 start_pfn
	EndPFN       uint64 // end_pfn_64, before version 6 end_pfn

	abi *kdumpABI
	// Where things lie in the file, as the sub header has it.
	info  plan.Extent // offset_vmcoreinfo, size_vmcoreinfo: the text, without a note's header
	note  plan.Extent // offset_note, size_note
	erase plan.Extent // offset_eraseinfo, size_eraseinfo
}

// A kdumpABI says where the fields lie. The structs are written as the machine's
// compiler lays them out. Each offset in the sub header is of 8 bytes and has
// its size after it, of a word.
type kdumpABI struct {
	word   int
	packed bool // 64-bit fields at multiples of 4: i386

	status int64 // in the header; block_size, sub_hdr_size, bitmap_blocks, max_mapnr follow

	subSize                 int64 // of the sub header
	split, startPFN, endPFN int64
	info, note, erase       int64
	startPFN64              int64 // end_pfn_64 and max_mapnr_64 follow
}

var (
	kdump64 = &kdumpABI{word: 8, status: 424, subSize: 104, split: 12, startPFN: 16, endPFN: 24, info: 32, note: 48, erase: 64, startPFN64: 80}
	// ARM, MIPS, PowerPC.
	kdump32padded = &kdumpABI{word: 4, status: 412, subSize: 96, split: 8, startPFN: 12, endPFN: 16, info: 24, note: 40, erase: 56, startPFN64: 72}
	// x86.
	kdump32packed = &kdumpABI{word: 4, packed: true, status: 412, subSize: 80, split: 8, startPFN: 12, endPFN: 16, info: 20, note: 32, erase: 44, startPFN64: 56}
)

// Incomplete reports whether makedumpfile marked the dump as unfinished.
func (h *KDumpHeader) Incomplete() bool { return h.Status&statusIncomplete != 0 }

// subOff and bitmapOff are where the sub header and the bitmaps begin, descOff
// where the page descriptors do. No sum overflows: each is less than 2^52.
func (h *KDumpHeader) subOff() int64    { return h.BlockSize }
func (h *KDumpHeader) bitmapOff() int64 { return h.BlockSize * (1 + h.SubHdrBlocks) }
func (h *KDumpHeader) descOff() int64   { return h.bitmapOff() + h.BlockSize*h.BitmapBlocks }

// home is where writers put the notes: directly after the sub header.
func (h *KDumpHeader) home() int64 { return h.subOff() + h.abi.subSize }

// bitmaps returns where the bitmap of the pages in the dump begins, and that of
// the pages there are. makedumpfile and QEMU write both, the latter first; a
// dump of all memory by diskdump had one.
func (h *KDumpHeader) bitmaps() (dumped, there int64) {
	half := h.BlockSize * (h.BitmapBlocks / 2)
	if uint64(half)*8 < h.MaxMapnr {
		return h.bitmapOff(), h.bitmapOff()
	}
	return h.bitmapOff() + half, h.bitmapOff()
}

// word reads a field of a word's size.
func (h *KDumpHeader) word(b []byte) uint64 {
	if h.abi.word == 4 {
		return uint64(h.Order.Uint32(b))
	}
	return h.Order.Uint64(b)
}

// extent reads an offset and the size after it.
func (h *KDumpHeader) extent(b []byte) plan.Extent {
	return plan.Extent{Off: h.Order.Uint64(b), Size: h.word(b[8:])}
}

// putExtent writes an offset and a size; the planner has checked that it fits.
func (h *KDumpHeader) putExtent(b []byte, e plan.Extent) {
	h.Order.PutUint64(b, e.Off)
	if h.abi.word == 4 {
		h.Order.PutUint32(b[8:], uint32(e.Size))
		return
	}
	h.Order.PutUint64(b[8:], e.Size)
}

// readKDumpHeader reads header and sub header. Nothing in the file tells byte
// order and word size: those are taken with which the header makes sense, as
// crash and libkdumpfile do it.
func readKDumpHeader(r io.ReaderAt, size int64) (*KDumpHeader, error) {
	b := make([]byte, min(size, kdumpHeaderSize))
	n, err := r.ReadAt(b, 0)
	if n < len(b) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = b[:n]
	switch {
	case !bytes.HasPrefix(b, []byte(kdumpSignature)):
		return nil, &FormatError{Off: 0, What: "signature", Found: fmt.Sprintf("%q", b[:min(len(b), 8)]), Want: fmt.Sprintf("%q", kdumpSignature), Err: ErrNotCore}
	case len(b) < kdumpHeaderSize:
		return nil, plan.TruncatedErrorf(0, "header", fmt.Sprintf("the end of the file at %#x", n), "%#x bytes", kdumpHeaderSize)
	}
	var bad error
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, abi := range []*kdumpABI{kdump64, kdump32padded} {
			h := &KDumpHeader{Order: order, abi: abi}
			err := h.parse(b)
			if err == nil {
				return h, h.readSub(r, size)
			}
			if bad == nil || h.Version >= 0 && h.Version <= maxKDumpVersion && abi.word == 8 {
				bad = err
			}
		}
	}
	return nil, bad
}

// parse takes the header apart, and looks whether it makes sense.
func (h *KDumpHeader) parse(b []byte) error {
	at := h.abi.status
	field := func(i int64) int64 { return int64(h.Order.Uint32(b[at+4*i:])) }
	h.Version = int(h.Order.Uint32(b[8:]))
	h.Status = uint32(field(0))
	h.BlockSize, h.SubHdrBlocks, h.BitmapBlocks = field(1), field(2), field(3)
	h.MaxMapnr = uint64(field(4))
	switch {
	case h.Version < 0 || h.Version > maxKDumpVersion:
		return plan.FormatErrorf(8, "header_version", fmt.Sprint(h.Version), "at most %d", maxKDumpVersion)
	case h.BlockSize < minBlockSize || h.BlockSize > maxBlockSize || h.BlockSize&(h.BlockSize-1) != 0:
		return plan.FormatErrorf(at+4, "block_size", fmt.Sprintf("%#x", h.BlockSize), "a power of two from %#x to %#x", minBlockSize, maxBlockSize)
	case h.SubHdrBlocks == 0:
		return plan.FormatErrorf(at+8, "sub_hdr_size", "0", "a block at least")
	case h.BitmapBlocks == 0:
		return plan.FormatErrorf(at+12, "bitmap_blocks", "0", "a block at least")
	}
	return nil
}

// readSub reads the sub header. It grew with header_version; the room for
// today's fields has always been there, for it has a block at least.
func (h *KDumpHeader) readSub(r io.ReaderAt, size int64) error {
	b := make([]byte, kdump64.subSize)
	if n, err := r.ReadAt(b, h.subOff()); n < len(b) {
		if errors.Is(err, io.EOF) {
			return plan.TruncatedErrorf(h.subOff(), "sub header", fmt.Sprintf("the end of the file at %#x", h.subOff()+int64(n)), "%#x bytes", len(b))
		}
		return errors.Wrap(err, "sub header")
	}
	if h.abi.word == 4 {
		h.abi = h.abi32(b)
	}
	a := h.abi
	if h.Version >= 2 {
		h.Split = h.Order.Uint32(b[a.split:]) != 0
		h.StartPFN, h.EndPFN = h.word(b[a.startPFN:]), h.word(b[a.endPFN:])
	}
	if h.Version >= 3 {
		h.info = h.extent(b[a.info:])
	}
	if h.Version >= notesVersion {
		h.note = h.extent(b[a.note:])
	}
	if h.Version >= 5 {
		// A piece of a split dump may say how large its eraseinfo was to be, and
		// have none: the header at offset 0 is no eraseinfo.
		if e := h.extent(b[a.erase:]); e.Off != 0 {
			h.erase = e
		}
	}
	if h.Version >= 6 {
		h.StartPFN, h.EndPFN = h.Order.Uint64(b[a.startPFN64:]), h.Order.Uint64(b[a.startPFN64+8:])
		h.MaxMapnr = h.Order.Uint64(b[a.startPFN64+16:])
	}
	if !h.Split {
		h.StartPFN, h.EndPFN = 0, h.MaxMapnr
	}
	h.EndPFN = min(h.EndPFN, h.MaxMapnr)
	h.StartPFN = min(h.StartPFN, h.EndPFN)
	if covered := uint64(min(h.BlockSize*h.BitmapBlocks*8, maxMapnr)); h.MaxMapnr > covered {
		return plan.FormatErrorf(a.status+16, "max_mapnr", fmt.Sprintf("%#x", h.MaxMapnr), "at most %#x, for which the bitmap has bits", covered)
	}
	return nil
}

// abi32 tells the two 32-bit sub headers apart, b being one of them: by whether
// VMCOREINFO lies among the sub header's blocks if that is taken for packed.
// libkdumpfile does it so.
func (h *KDumpHeader) abi32(b []byte) *kdumpABI {
	if h.Version < 3 {
		return kdump32padded // no difference yet
	}
	info := h.extent(b[kdump32packed.info:])
	if info == (plan.Extent{}) || info.Off > uint64(h.subOff()) && info.Within(h.bitmapOff()) {
		return kdump32packed
	}
	return kdump32padded
}
