package vmcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// ErrNoNotes is returned for a change to an image of memory: it has no place for
// notes.
var ErrNoNotes = errors.New("an image of memory has no notes")

// An Image is memory in a form that has no notes: LiME's, AVML's, raw, and an ELF
// file without a PT_NOTE. It can be read, but not changed.
type Image struct {
	memory
	// Size is the file's size in bytes.
	Size int64

	format string
	end    int64 // where the file ends by its headers
	notes  *elfnote.Segment
}

// memory is what an image holds.
type memory interface {
	physmem.Memory
	physmem.Sparse
}

func newImage(format string, m memory, size, end int64, order binary.ByteOrder) (*Image, error) {
	notes, err := elfnote.Parse(bytes.NewReader(nil), 0, order)
	return &Image{m, size, format, end, notes}, err
}

// OpenMemory is [Open] for who needs memory alone: it opens images as well.
func OpenMemory(r io.ReaderAt, size int64) (Core, error) {
	switch Identify(r) {
	case KindLiME, KindAVML:
		return asCore(openLiME(r, size))
	}
	c, err := Open(r, size)
	if err == nil || !errors.Is(err, ErrNoPTNote) {
		return c, err
	}
	e, err := openTable(r, size)
	if err != nil {
		return nil, err
	}
	format := (&ELF{Header: e.Header}).Format()
	return asCore(newImage(format+"-without-notes", e, size, e.Claimed(), e.Order))
}

// OpenRaw opens raw physical memory from address 0 on. No magic tells it.
func OpenRaw(r io.ReaderAt, size int64) (Core, error) {
	e := &ELF{Size: size, r: r}
	e.Progs = []elf.ProgHeader{{Type: elf.PT_LOAD, Filesz: uint64(size), Memsz: uint64(size)}}
	e.phys = sync.OnceValue(e.mapPhys)
	return asCore(newImage("raw", e, size, size, binary.LittleEndian))
}

// asCore keeps a nil pointer out of the interface.
func asCore(i *Image, err error) (Core, error) {
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Format implements [Core]: "lime", "avml", "raw", or the ELF format with
// "-without-notes".
func (i *Image) Format() string { return i.format }

// Notes implements [Core]: there are none.
func (i *Image) Notes() *elfnote.Segment { return i.notes }

// NotesOff implements [Core].
func (i *Image) NotesOff() int64 { return 0 }

// Incomplete implements [Core]: no image says so of itself.
func (i *Image) Incomplete() bool { return false }

// Verify implements [Core]: nobody reads notes out of an image.
func (i *Image) Verify() []Finding { return nil }

// PlanCopy implements [Core]: it fails.
func (i *Image) PlanCopy(elfnote.Splice) (*Layout, error) { return nil, ErrNoNotes }

// PlanInPlace implements [Core]: it fails.
func (i *Image) PlanInPlace(Placement, elfnote.Splice) (*InPlace, error) { return nil, ErrNoNotes }

// PlainSize implements [Core].
func (i *Image) PlainSize() int64 { return i.Size }

// Plain implements [Core]: an image is its own plain form.
func (i *Image) Plain() Core { return i }

// Claimed implements [Core].
func (i *Image) Claimed() int64 { return i.end }

// Used implements [Core]: nothing is changed in place, so nothing is listed.
func (i *Image) Used() ([]plan.Extent, error) { return nil, nil }

// The form of LiME (version 1) and of AVML (version 2): for each range of memory
// a header of 32 bytes, all little-endian, and its contents. AVML compresses
// them in the framing format of snappy, and writes the compressed size, 64
// bits, after them.
//
//	magic    4 bytes
//	version  32 bits
//	first    64 bits, a physical address
//	last     64 bits, that of the last byte
//	zeros    8 bytes
const (
	limeMagic  = "EMiL"
	avmlMagic  = "AVML"
	limeHeader = 32

	// maxImageRanges bounds the ranges of an image; a host has hundreds. AVML
	// starts a new range for every 4 GiB or less.
	maxImageRanges = 1 << 20
)

// openLiME opens an image of LiME or AVML. Ranges of both may be mixed.
func openLiME(r io.ReaderAt, size int64) (*Image, error) {
	m := &limeMemory{r: r}
	m.raw = &ELF{Size: size, r: r}
	m.raw.phys = sync.OnceValue(m.raw.mapPhys)
	format, end := "lime", int64(0)
	for at := int64(0); at < size; {
		b := make([]byte, limeHeader)
		if n, err := r.ReadAt(b, at); n < len(b) && !errors.Is(err, io.EOF) {
			return nil, errors.Wrapf(err, "offset %#x", at)
		} else if n < len(b) {
			end = at + limeHeader // cut off within a header
			break
		}
		if len(m.raw.Progs)+len(m.framed) == maxImageRanges {
			return nil, plan.FormatErrorf(at, "number of ranges", "another range", "at most %d", maxImageRanges)
		}
		magic, version := string(b[:4]), binary.LittleEndian.Uint32(b[4:])
		first, last := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		if last < first || last-first >= 1<<62 {
			return nil, plan.FormatErrorf(at+8, "s_addr and e_addr", fmt.Sprintf("%#x to %#x", first, last), "a range of memory")
		}
		n := last - first + 1
		switch at += limeHeader; {
		case magic == limeMagic && version == 1:
			m.raw.Progs = append(m.raw.Progs, elf.ProgHeader{Type: elf.PT_LOAD, Off: uint64(at), Paddr: first, Filesz: n, Memsz: n})
			if int64(n) > 1<<62-at {
				return nil, plan.FormatErrorf(at-limeHeader+16, "e_addr", fmt.Sprintf("%#x", last), "a range that ends below 2^62 in the file")
			}
			at += int64(n)
		case magic == avmlMagic && version == 2:
			format = "avml"
			f, next, err := m.index(first, n, at, size)
			if err != nil {
				return nil, err
			}
			m.framed = append(m.framed, f)
			at = next
		default:
			return nil, plan.FormatErrorf(at-limeHeader, "magic and version", fmt.Sprintf("%q %d", magic, version), "%q 1 or %q 2", limeMagic, avmlMagic)
		}
		end = at
	}
	slices.SortStableFunc(m.framed, func(a, b framedRange) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	for i := 1; i < len(m.framed); i++ {
		if a, b := m.framed[i-1].Range, m.framed[i].Range; b.Addr-a.Addr < a.Size {
			return nil, plan.FormatErrorf(0, "ranges", fmt.Sprintf("%#x twice", b.Addr), "ranges that do not overlap")
		}
	}
	return newImage(format, m, size, end, binary.LittleEndian)
}

// limeMemory is the memory of a LiME or AVML image.
type limeMemory struct {
	r      io.ReaderAt
	raw    *ELF          // the ranges that are not compressed
	framed []framedRange // the others, sorted by address
	chunks int           // in all of framed
}

// ReadPhys implements [physmem.Memory].
func (m *limeMemory) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		f := m.find(at)
		if f == nil {
			rest := p[n:]
			if next := m.after(at); uint64(len(rest)) > next {
				rest = rest[:next]
			}
			k, err := m.raw.ReadPhys(rest, at)
			n += k
			if err != nil {
				return n, err
			}
			continue
		}
		k, err := m.read(f, p[n:], at)
		n += k
		if err != nil {
			return n, errors.Wrapf(err, "physical address %#x", addr+uint64(n))
		}
	}
	return n, nil
}

// Ranges implements [physmem.Memory].
func (m *limeMemory) Ranges() iter.Seq[physmem.Range] {
	rs := slices.Collect(m.raw.Ranges())
	for _, f := range m.framed {
		rs = append(rs, physmem.Range{Addr: f.Addr, Size: f.held})
	}
	return slices.Values(physmem.Union(rs))
}

// Data implements [physmem.Sparse].
func (m *limeMemory) Data(r physmem.Range) iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		for at := r.Addr; at < r.End(); {
			part := physmem.Between(at, r.End())
			data := func(yield func(physmem.Range) bool) { yield(part) }
			if f := m.find(at); f != nil {
				part = part.Intersect(f.Range)
			} else {
				part.Size = min(part.Size, m.after(at))
				data = m.raw.Data(part)
			}
			for d := range data {
				if !yield(d) {
					return
				}
			}
			at = part.End()
		}
	}
}
