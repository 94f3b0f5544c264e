package elfcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"unsafe"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// debug/elf cannot open every real dump (more than 65,534 program headers,
// p_offset -1, section tables cut off), and it keeps neither e_phoff nor
// e_flags. So the headers are read here, into debug/elf's own structs.

// Incomplete is the bit in e_flags by which makedumpfile marks a dump that it
// could not finish (DUMP_ELF_INCOMPLETE, since 1.5.5). In a process's core
// e_flags belongs to the processor (EF_RISCV_RVC is the same bit).
const Incomplete = 1

// A Header is the ELF header of a core, with the counts that do not fit in it
// taken from section header 0 (PN_XNUM).
type Header struct {
	Class   elf.Class
	Order   binary.ByteOrder
	Machine elf.Machine
	Flags   uint32 // e_flags

	Phoff     uint64 // e_phoff: file offset of the program header table, bytes
	Phentsize uint64 // e_phentsize: bytes from one program header to the next
	Phnum     uint64 // number of program headers
	Shoff     uint64 // e_shoff: file offset of the section header table; 0 for none
	Shentsize uint64 // e_shentsize
	Shnum     uint64 // number of section headers

	Layout *classLayout
}

// A classLayout says where the fields lie that differ between ELF64 and ELF32.
// debug/elf's structs have the fields in the file's order and sizes, so their
// offsets in memory are those in the file.
type classLayout struct {
	Ehsize, Phentsize, shentsize uint64
	word                         int // size of an offset or address

	ePhoff, eShoff                                 uintptr
	POff, pVaddr, pPaddr, PFilesz, pMemsz, pFlags  uintptr
	pAlign                                         uintptr
	shOffset, shSize, shInfo                       uintptr
	EFlags, ePhentsize, EPhnum, eShentsize, eShnum uintptr
}

var Layout64 = &classLayout{
	Ehsize:    uint64(unsafe.Sizeof(elf.Header64{})),
	Phentsize: uint64(unsafe.Sizeof(elf.Prog64{})),
	shentsize: uint64(unsafe.Sizeof(elf.Section64{})),
	word:      8,

	ePhoff: unsafe.Offsetof(elf.Header64{}.Phoff), eShoff: unsafe.Offsetof(elf.Header64{}.Shoff),
	EFlags:     unsafe.Offsetof(elf.Header64{}.Flags),
	ePhentsize: unsafe.Offsetof(elf.Header64{}.Phentsize), EPhnum: unsafe.Offsetof(elf.Header64{}.Phnum),
	eShentsize: unsafe.Offsetof(elf.Header64{}.Shentsize), eShnum: unsafe.Offsetof(elf.Header64{}.Shnum),

	POff: unsafe.Offsetof(elf.Prog64{}.Off), pVaddr: unsafe.Offsetof(elf.Prog64{}.Vaddr),
	pPaddr: unsafe.Offsetof(elf.Prog64{}.Paddr), PFilesz: unsafe.Offsetof(elf.Prog64{}.Filesz),
	pMemsz: unsafe.Offsetof(elf.Prog64{}.Memsz), pFlags: unsafe.Offsetof(elf.Prog64{}.Flags),
	pAlign: unsafe.Offsetof(elf.Prog64{}.Align),

	shOffset: unsafe.Offsetof(elf.Section64{}.Off), shSize: unsafe.Offsetof(elf.Section64{}.Size),
	shInfo: unsafe.Offsetof(elf.Section64{}.Info),
}

var Layout32 = &classLayout{
	Ehsize:    uint64(unsafe.Sizeof(elf.Header32{})),
	Phentsize: uint64(unsafe.Sizeof(elf.Prog32{})),
	shentsize: uint64(unsafe.Sizeof(elf.Section32{})),
	word:      4,

	ePhoff: unsafe.Offsetof(elf.Header32{}.Phoff), eShoff: unsafe.Offsetof(elf.Header32{}.Shoff),
	EFlags:     unsafe.Offsetof(elf.Header32{}.Flags),
	ePhentsize: unsafe.Offsetof(elf.Header32{}.Phentsize), EPhnum: unsafe.Offsetof(elf.Header32{}.Phnum),
	eShentsize: unsafe.Offsetof(elf.Header32{}.Shentsize), eShnum: unsafe.Offsetof(elf.Header32{}.Shnum),

	POff: unsafe.Offsetof(elf.Prog32{}.Off), pVaddr: unsafe.Offsetof(elf.Prog32{}.Vaddr),
	pPaddr: unsafe.Offsetof(elf.Prog32{}.Paddr), PFilesz: unsafe.Offsetof(elf.Prog32{}.Filesz),
	pMemsz: unsafe.Offsetof(elf.Prog32{}.Memsz), pFlags: unsafe.Offsetof(elf.Prog32{}.Flags),
	pAlign: unsafe.Offsetof(elf.Prog32{}.Align),

	shOffset: unsafe.Offsetof(elf.Section32{}.Off), shSize: unsafe.Offsetof(elf.Section32{}.Size),
	shInfo: unsafe.Offsetof(elf.Section32{}.Info),
}

// word reads an offset or an address at position at of the struct in b.
func (h *Header) word(b []byte, at uintptr) uint64 {
	if h.Layout.word == 4 {
		return uint64(h.Order.Uint32(b[at:]))
	}
	return h.Order.Uint64(b[at:])
}

// PutWord writes an offset or a size; the planner has checked that it fits.
func (h *Header) PutWord(b []byte, at uintptr, v uint64) {
	if h.Layout.word == 4 {
		h.Order.PutUint32(b[at:], uint32(v))
		return
	}
	h.Order.PutUint64(b[at:], v)
}

// maxOffset is the largest file offset that the class can express.
func (h *Header) maxOffset() uint64 {
	if h.Layout.word == 4 {
		return 1<<32 - 1
	}
	return 1<<63 - 1
}

// ReadHeader reads the ELF header, and section header 0 where e_phnum is
// PN_XNUM.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	b := make([]byte, min(size, int64(Layout64.Ehsize)))
	n, err := r.ReadAt(b, 0)
	if n < len(b) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = b[:n]
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		found := fmt.Sprintf("% x", b[:min(len(b), 8)])
		if len(b) == 0 {
			found = plan.EmptyFile
		}
		return nil, &plan.FormatError{Off: 0, What: "file", Found: found, Want: "an ELF core", Err: plan.ErrNotCore}
	}
	if uint64(len(b)) < Layout32.Ehsize {
		return nil, plan.TruncatedErrorf(0, "ELF header", fmt.Sprintf("the end of the file at %#x", size), "%d bytes", Layout32.Ehsize)
	}
	h := &Header{Class: elf.Class(b[elf.EI_CLASS])}
	switch h.Class {
	case elf.ELFCLASS64:
		h.Layout = Layout64
	case elf.ELFCLASS32:
		h.Layout = Layout32
	default:
		return nil, plan.FormatErrorf(elf.EI_CLASS, "EI_CLASS", h.Class.String(), "ELFCLASS64 or ELFCLASS32")
	}
	if uint64(len(b)) < h.Layout.Ehsize {
		return nil, plan.TruncatedErrorf(0, "ELF header", fmt.Sprintf("the end of the file at %#x", size), "%d bytes", h.Layout.Ehsize)
	}
	switch d := elf.Data(b[elf.EI_DATA]); d {
	case elf.ELFDATA2LSB:
		h.Order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		h.Order = binary.BigEndian
	default:
		return nil, plan.FormatErrorf(elf.EI_DATA, "EI_DATA", d.String(), "ELFDATA2LSB or ELFDATA2MSB")
	}
	// e_type and e_machine lie at the same place in both classes.
	eType := elf.Type(h.Order.Uint16(b[unsafe.Offsetof(elf.Header64{}.Type):]))
	if eType != elf.ET_CORE {
		return nil, &plan.FormatError{Off: int64(unsafe.Offsetof(elf.Header64{}.Type)), What: "e_type", Found: eType.String(), Want: "ET_CORE", Err: plan.ErrNotCore}
	}
	l := h.Layout
	h.Machine = elf.Machine(h.Order.Uint16(b[unsafe.Offsetof(elf.Header64{}.Machine):]))
	h.Flags = h.Order.Uint32(b[l.EFlags:])
	h.Phoff = h.word(b, l.ePhoff)
	h.Shoff = h.word(b, l.eShoff)
	h.Phentsize = uint64(h.Order.Uint16(b[l.ePhentsize:]))
	h.Phnum = uint64(h.Order.Uint16(b[l.EPhnum:]))
	h.Shentsize = uint64(h.Order.Uint16(b[l.eShentsize:]))
	h.Shnum = uint64(h.Order.Uint16(b[l.eShnum:]))
	return h, h.readCounts(r, size)
}

// maxEntry bounds e_phentsize and e_shentsize: the ELF specification lets
// tables have larger entries than it defines, but nobody writes any.
const maxEntry = 256

// pnXnum in e_phnum says that the number of program headers is in sh_info of
// section header 0. QEMU's dump-guest-memory -p writes it; debug/elf does not
// know it.
const pnXnum = 0xffff

// readCounts takes the counts that do not fit into the ELF header from section
// header 0, and checks the entry sizes.
func (h *Header) readCounts(r io.ReaderAt, size int64) error {
	l := h.Layout
	if h.Phentsize < l.Phentsize || h.Phentsize > maxEntry {
		return plan.FormatErrorf(int64(l.ePhentsize), "e_phentsize", fmt.Sprint(h.Phentsize), "%d to %d", l.Phentsize, maxEntry)
	}
	if h.Phnum != pnXnum {
		// If e_shnum is 0, e_shoff leads nowhere, or to 65,280 section headers
		// and more. No dump has so many, and a stream cannot look there. So a
		// file does not look either, and both give the same copy.
		return h.checkShentsize()
	}
	zero := plan.Extent{Off: h.Shoff, Size: l.shentsize}
	if h.Shoff == 0 || !zero.Within(size) {
		return plan.TruncatedErrorf(int64(l.eShoff), "e_shoff", fmt.Sprintf("%#x", h.Shoff),
			"section header 0 within the file's %#x bytes, since e_phnum is PN_XNUM", size)
	}
	b := make([]byte, l.shentsize)
	if n, err := r.ReadAt(b, int64(zero.Off)); n < len(b) {
		return errors.Wrap(plan.NoEOF(err), "section header 0")
	}
	// Fewer than 65,535 would be odd, but are accepted.
	h.Phnum = uint64(h.Order.Uint32(b[l.shInfo:]))
	if n := h.word(b, l.shSize); h.Shnum == 0 && n >= uint64(elf.SHN_LORESERVE) {
		h.Shnum = n
	}
	h.Shnum = max(h.Shnum, 1)
	return h.checkShentsize()
}

// checkShentsize checks e_shentsize where there are section headers.
func (h *Header) checkShentsize() error {
	if h.Shoff != 0 && h.Shnum > 0 && (h.Shentsize < h.Layout.shentsize || h.Shentsize > maxEntry) {
		return plan.FormatErrorf(int64(h.Layout.eShentsize), "e_shentsize", fmt.Sprint(h.Shentsize), "%d to %d", h.Layout.shentsize, maxEntry)
	}
	if h.Shoff != 0 && h.Shnum > maxSections {
		return plan.FormatErrorf(int64(h.Layout.eShnum), "number of section headers", fmt.Sprint(h.Shnum), "at most %d", maxSections)
	}
	return nil
}

// progTable returns where the program header table lies.
func (h *Header) progTable() plan.Extent {
	return plan.Extent{Off: h.Phoff, Size: h.Phnum * h.Phentsize}
}

// allSections returns where the section header table lies by the ELF header.
func (h *Header) allSections() plan.Extent {
	return plan.Extent{Off: h.Shoff, Size: h.Shnum * h.Shentsize}
}
