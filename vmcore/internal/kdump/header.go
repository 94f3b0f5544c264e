package kdump

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

const (
	Signature = "KDUMP   "

	// maxVersion is what makedumpfile writes since 1.5.1, and QEMU: no
	// writer or reader knows of a later one.
	maxVersion = 6
	// NotesVersion is the first header_version with notes in the dump.
	NotesVersion = 4

	// headerSize is that of struct disk_dump_header on 64-bit machines.
	headerSize = 464

	// Page sizes that libkdumpfile accepts.
	minBlockSize = 4 << 10
	MaxBlockSize = 256 << 10
	// maxMapnr bounds the bitmaps: 2^48 bytes of memory, in pages of 4 KiB.
	maxMapnr = 1 << 36
)

// Is reports whether r begins as a kdump-compressed dump does.
func Is(r io.ReaderAt) bool { return plan.HasAt(r, 0, Signature) }

// Bits in status (DUMP_DH_...). The lower ones say how pages are compressed;
// readers go by each page's own flags.
const (
	StatusIncomplete      = 0x8  // makedumpfile ran out of room
	StatusExcludedVmemmap = 0x10 // makedumpfile -e
)

// A Header is the header (struct disk_dump_header) and the sub header
// (struct kdump_sub_header) of a kdump-compressed dump. Fields that its version
// does not have are 0.
type Header struct {
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

	ABI *ABI
	// Where things lie in the file, as the sub header has it.
	Info  plan.Extent // offset_vmcoreinfo, size_vmcoreinfo: the text, without a note's header
	Note  plan.Extent // offset_note, size_note
	Erase plan.Extent // offset_eraseinfo, size_eraseinfo
}

// An ABI says where the fields lie. The structs are written as the machine's
// compiler lays them out. Each offset in the sub header is of 8 bytes and has
// its size after it, of a word.
type ABI struct {
	word   int
	packed bool // 64-bit fields at multiples of 4: i386

	Status int64 // in the header; block_size, sub_hdr_size, bitmap_blocks, max_mapnr follow

	SubSize                 int64 // of the sub header
	Split, startPFN, endPFN int64
	Info, Note, Erase       int64
	StartPFN64              int64 // end_pfn_64 and max_mapnr_64 follow
}

var (
	ABI64 = &ABI{word: 8, Status: 424, SubSize: 104, Split: 12, startPFN: 16, endPFN: 24, Info: 32, Note: 48, Erase: 64, StartPFN64: 80}
	// ARM, MIPS, PowerPC.
	ABI32Padded = &ABI{word: 4, Status: 412, SubSize: 96, Split: 8, startPFN: 12, endPFN: 16, Info: 24, Note: 40, Erase: 56, StartPFN64: 72}
	// x86.
	ABI32Packed = &ABI{word: 4, packed: true, Status: 412, SubSize: 80, Split: 8, startPFN: 12, endPFN: 16, Info: 20, Note: 32, Erase: 44, StartPFN64: 56}
)

// Incomplete reports whether makedumpfile marked the dump as unfinished.
func (h *Header) Incomplete() bool { return h.Status&StatusIncomplete != 0 }

// SubOff is where the sub header begins. No sum of offsets here overflows: each
// is less than 2^52.
func (h *Header) SubOff() int64 { return h.BlockSize }

// BitmapOff is where the bitmaps begin.
func (h *Header) BitmapOff() int64 { return h.BlockSize * (1 + h.SubHdrBlocks) }

// DescOff is where the page descriptors begin.
func (h *Header) DescOff() int64 { return h.BitmapOff() + h.BlockSize*h.BitmapBlocks }

// Home is where writers put the notes: directly after the sub header.
func (h *Header) Home() int64 { return h.SubOff() + h.ABI.SubSize }

// Bitmaps returns where the bitmap of the pages in the dump begins, and that of
// the pages in memory. makedumpfile and QEMU write both, the latter first; a
// dump of all memory by diskdump had one.
func (h *Header) Bitmaps() (dumped, there int64) {
	half := h.BlockSize * (h.BitmapBlocks / 2)
	if uint64(half)*8 < h.MaxMapnr {
		return h.BitmapOff(), h.BitmapOff()
	}
	return h.BitmapOff() + half, h.BitmapOff()
}

// word reads a field of a word's size.
func (h *Header) word(b []byte) uint64 {
	if h.ABI.word == 4 {
		return uint64(h.Order.Uint32(b))
	}
	return h.Order.Uint64(b)
}

// extent reads an offset and the size after it.
func (h *Header) extent(b []byte) plan.Extent {
	return plan.Extent{Off: h.Order.Uint64(b), Size: h.word(b[8:])}
}

// PutExtent writes an offset and a size; the planner has checked that it fits.
func (h *Header) PutExtent(b []byte, e plan.Extent) {
	h.Order.PutUint64(b, e.Off)
	if h.ABI.word == 4 {
		h.Order.PutUint32(b[8:], uint32(e.Size))
		return
	}
	h.Order.PutUint64(b[8:], e.Size)
}

// readHeader reads header and sub header. Nothing in the file tells byte order
// and word size: readHeader takes the first of each with which the header makes
// sense, as crash and libkdumpfile do.
func readHeader(r io.ReaderAt, size int64) (*Header, error) {
	b := make([]byte, min(size, headerSize))
	n, err := r.ReadAt(b, 0)
	if n < len(b) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = b[:n]
	switch {
	case !bytes.HasPrefix(b, []byte(Signature)):
		return nil, &plan.FormatError{Off: 0, What: "signature", Found: fmt.Sprintf("%q", b[:min(len(b), 8)]), Want: fmt.Sprintf("%q", Signature), Err: plan.ErrNotCore}
	case len(b) < headerSize:
		return nil, plan.TruncatedErrorf(0, "header", fmt.Sprintf("the end of the file at %#x", n), "%#x bytes", headerSize)
	}
	var bad error
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, abi := range []*ABI{ABI64, ABI32Padded} {
			h := &Header{Order: order, ABI: abi}
			err := h.parse(b)
			if err == nil {
				return h, h.readSub(r)
			}
			if bad == nil || h.Version >= 0 && h.Version <= maxVersion && abi.word == 8 {
				bad = err
			}
		}
	}
	return nil, bad
}

// parse decodes the header, and checks that it makes sense.
func (h *Header) parse(b []byte) error {
	at := h.ABI.Status
	field := func(i int64) int64 { return int64(h.Order.Uint32(b[at+4*i:])) }
	h.Version = int(h.Order.Uint32(b[8:]))
	h.Status = uint32(field(0))
	h.BlockSize, h.SubHdrBlocks, h.BitmapBlocks = field(1), field(2), field(3)
	h.MaxMapnr = uint64(field(4))
	switch {
	case h.Version < 0 || h.Version > maxVersion:
		return plan.FormatErrorf(8, "header_version", fmt.Sprint(h.Version), "at most %d", maxVersion)
	case h.BlockSize < minBlockSize || h.BlockSize > MaxBlockSize || h.BlockSize&(h.BlockSize-1) != 0:
		return plan.FormatErrorf(at+4, "block_size", fmt.Sprintf("%#x", h.BlockSize), "a power of two from %#x to %#x", minBlockSize, MaxBlockSize)
	case h.SubHdrBlocks == 0:
		return plan.FormatErrorf(at+8, "sub_hdr_size", "0", "a block at least")
	case h.BitmapBlocks == 0:
		return plan.FormatErrorf(at+12, "bitmap_blocks", "0", "a block at least")
	}
	return nil
}

// readSub reads the sub header. It grew with header_version, but has always had
// a block or more, so that there is room for today's fields.
func (h *Header) readSub(r io.ReaderAt) error {
	b := make([]byte, ABI64.SubSize)
	if n, err := r.ReadAt(b, h.SubOff()); n < len(b) {
		if errors.Is(err, io.EOF) {
			return plan.TruncatedErrorf(h.SubOff(), "sub header", fmt.Sprintf("the end of the file at %#x", h.SubOff()+int64(n)), "%#x bytes", len(b))
		}
		return errors.Wrap(err, "sub header")
	}
	if h.ABI.word == 4 {
		h.ABI = h.abi32(b)
	}
	a := h.ABI
	if h.Version >= 2 {
		h.Split = h.Order.Uint32(b[a.Split:]) != 0
		h.StartPFN, h.EndPFN = h.word(b[a.startPFN:]), h.word(b[a.endPFN:])
	}
	if h.Version >= 3 {
		h.Info = h.extent(b[a.Info:])
	}
	if h.Version >= NotesVersion {
		h.Note = h.extent(b[a.Note:])
	}
	if h.Version >= 5 {
		// A piece of a split dump may say how large its eraseinfo was to be,
		// and have none: the header at offset 0 is no eraseinfo.
		if e := h.extent(b[a.Erase:]); e.Off != 0 {
			h.Erase = e
		}
	}
	if h.Version >= 6 {
		h.StartPFN, h.EndPFN = h.Order.Uint64(b[a.StartPFN64:]), h.Order.Uint64(b[a.StartPFN64+8:])
		h.MaxMapnr = h.Order.Uint64(b[a.StartPFN64+16:])
	}
	if !h.Split {
		h.StartPFN, h.EndPFN = 0, h.MaxMapnr
	}
	h.EndPFN = min(h.EndPFN, h.MaxMapnr)
	h.StartPFN = min(h.StartPFN, h.EndPFN)
	if covered := uint64(min(h.BlockSize*h.BitmapBlocks*8, maxMapnr)); h.MaxMapnr > covered {
		return plan.FormatErrorf(a.Status+16, "max_mapnr", fmt.Sprintf("%#x", h.MaxMapnr), "at most %#x, for which the bitmap has bits", covered)
	}
	return nil
}

// abi32 returns which of the two 32-bit sub headers b is: the packed one, if
// its field for VMCOREINFO then leads into the sub header's blocks.
// libkdumpfile does the same.
func (h *Header) abi32(b []byte) *ABI {
	if h.Version < 3 {
		return ABI32Padded // no difference yet
	}
	info := h.extent(b[ABI32Packed.Info:])
	if info == (plan.Extent{}) || info.Off > uint64(h.SubOff()) && info.Within(h.BitmapOff()) {
		return ABI32Packed
	}
	return ABI32Padded
}
