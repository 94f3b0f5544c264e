// Package lime reads images of memory by LiME and AVML.
package lime

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/physmap"
	"vmcsnote/vmcore/internal/plan"
)

// The form of LiME (version 1) and of AVML (version 2): for each range of
// memory a header of 32 bytes, all little-endian, and its contents. AVML
// compresses them in the framing format of snappy, and writes the compressed
// size, 64 bits, after them.
//
//	magic    4 bytes
//	version  32 bits
//	first    64 bits, a physical address
//	last     64 bits, that of the last byte
//	zeros    8 bytes
const (
	Magic     = "EMiL" // LiME's
	AVMLMagic = "AVML"

	headerSize = 32

	// maxRanges bounds the ranges of an image; a host has hundreds. AVML
	// starts a new range for every 4 GiB or less.
	maxRanges = 1 << 20
)

// Open opens an image of LiME or AVML in the first size bytes of r. Ranges of
// both may be mixed.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	m := &Image{Format: "lime", r: r}
	var raw []elf.ProgHeader
	for at := int64(0); at < size; {
		b := make([]byte, headerSize)
		if n, err := r.ReadAt(b, at); n < len(b) && !errors.Is(err, io.EOF) {
			return nil, errors.Wrapf(err, "offset %#x", at)
		} else if n < len(b) {
			m.End = at + headerSize // cut off within a header
			break
		}
		if len(raw)+len(m.framed) == maxRanges {
			return nil, plan.FormatErrorf(at, "number of ranges", "another range", "at most %d", maxRanges)
		}
		magic, version := string(b[:4]), binary.LittleEndian.Uint32(b[4:])
		first, last := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		if last < first || last-first >= 1<<62 {
			return nil, plan.FormatErrorf(at+8, "s_addr and e_addr", fmt.Sprintf("%#x to %#x", first, last), "a range of memory")
		}
		n := last - first + 1
		switch at += headerSize; {
		case magic == Magic && version == 1:
			raw = append(raw, elf.ProgHeader{Type: elf.PT_LOAD, Off: uint64(at), Paddr: first, Filesz: n, Memsz: n})
			if int64(n) > 1<<62-at {
				return nil, plan.FormatErrorf(at-headerSize+16, "e_addr", fmt.Sprintf("%#x", last), "a range that ends below 2^62 in the file")
			}
			at += int64(n)
		case magic == AVMLMagic && version == 2:
			m.Format = "avml"
			f, next, err := m.index(first, n, at, size)
			if err != nil {
				return nil, err
			}
			m.framed = append(m.framed, f)
			at = next
		default:
			return nil, plan.FormatErrorf(at-headerSize, "magic and version", fmt.Sprintf("%q %d", magic, version), "%q 1 or %q 2", Magic, AVMLMagic)
		}
		m.End = at
	}
	sort.SliceStable(m.framed, func(i, j int) bool { return m.framed[i].Compare(m.framed[j].Range) < 0 })
	for i := 1; i < len(m.framed); i++ {
		if a, b := m.framed[i-1].Range, m.framed[i].Range; b.Addr-a.Addr < a.Size {
			return nil, plan.FormatErrorf(0, "ranges", fmt.Sprintf("%#x twice", b.Addr), "ranges that do not overlap")
		}
	}
	m.raw = physmap.New(r, size, raw)
	return m, nil
}

// An Image is the memory that LiME or AVML wrote.
type Image struct {
	Format string // "lime" or "avml"
	End    int64  // where the file ends by its headers

	r      io.ReaderAt
	raw    *physmap.Map  // the ranges that are not compressed
	framed []framedRange // the others, sorted by address
	chunks int           // in all of framed
}

// ReadPhys implements [physmem.Memory].
func (m *Image) ReadPhys(p []byte, addr uint64) (n int, err error) {
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
			return n, &plan.AddressError{Addr: addr + uint64(n), Err: err}
		}
	}
	return n, nil
}

// Ranges implements [physmem.Memory].
func (m *Image) Ranges() iter.Seq[physmem.Range] {
	rs := slices.Collect(m.raw.Ranges())
	for _, f := range m.framed {
		rs = append(rs, physmem.Range{Addr: f.Addr, Size: f.held})
	}
	return slices.Values(physmem.Union(rs))
}

// Data implements [physmem.Sparse].
func (m *Image) Data(r physmem.Range) iter.Seq[physmem.Range] {
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
