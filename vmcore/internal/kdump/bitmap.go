package kdump

import (
	"encoding/binary"
	"io"
	"iter"
	"math/bits"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// chunkSize is how many bytes of the bitmap have one count in the index: those
// for 128 MiB of memory. The index of a machine with 1 TiB takes 64 KiB.
const (
	chunkSize  = 4 << 10
	chunkPages = chunkSize * 8
)

// A bitmapIndex finds a page's descriptor in the table: the pages in the dump
// are numbered in the order of their PFNs.
type bitmapIndex struct {
	// before[i] is the number of pages before chunk i of the bitmap. The last
	// is that of all pages.
	before []uint64
	// first is how many of them lie before StartPFN: other files have those.
	first uint64
	// Data is where page data begins: after the descriptors. On a live system
	// makedumpfile counts the pages first; if there are more when it writes
	// them, the last descriptors lie where the first page data was written.
	Data uint64
	// err is why the index ends before the bitmap does.
	err error
}

// Pages returns the number of descriptors.
func (x *bitmapIndex) Pages() uint64 { return x.before[len(x.before)-1] - x.first }

// indexBitmap reads the bitmap of the pages in the dump once. What it keeps is
// in proportion to what the file holds.
func (c *Dump) indexBitmap() *bitmapIndex {
	x := &bitmapIndex{before: []uint64{0}}
	n, pfn := uint64(0), uint64(0)
	buf := make([]byte, 16*chunkSize)
	for pfn < c.EndPFN && x.err == nil {
		var b []byte
		b, x.err = c.readBitmap(buf, pfn)
		for ; len(b) > 0; b = b[min(chunkSize, len(b)):] {
			chunk := b[:min(chunkSize, len(b))]
			if c.StartPFN-pfn < chunkPages {
				x.first = n + countBits(chunk, 0, min(c.StartPFN-pfn, uint64(len(chunk))*8))
			}
			if !physmem.AllZero(chunk) { // as most are in a large dump
				n += countBits(chunk, 0, min(uint64(len(chunk))*8, c.EndPFN-pfn))
			}
			x.before = append(x.before, n)
			pfn += chunkPages
		}
	}
	if pfn <= c.StartPFN {
		x.first = n
	}
	x.Data = uint64(c.DescOff()) + x.Pages()*plan.DescSize
	var b [plan.DescSize]byte
	if n, _ := c.R.ReadAt(b[:], c.DescOff()); n == len(b) {
		if off := c.Desc(b[:]).Data.Off; off >= uint64(c.DescOff()+plan.DescSize) {
			x.Data = min(x.Data, off)
		}
	}
	return x
}

// readBitmap reads the bitmap from pfn on, a multiple of chunkPages, into buf.
// Where the file ends before the bitmap it returns what there is.
func (c *Dump) readBitmap(buf []byte, pfn uint64) ([]byte, error) {
	dumped, _ := c.Bitmaps()
	b := buf[:min(uint64(len(buf)), (c.EndPFN-pfn+7)/8)]
	off := dumped + int64(pfn/8)
	n, err := c.R.ReadAt(b, off)
	if n == len(b) {
		return b, nil
	}
	if errors.Is(err, io.EOF) {
		err = plan.ErrTruncated
	}
	return b[:n], errors.Wrapf(err, "bitmap, offset %#x", off+int64(n))
}

// isSet reports whether bit i of the bitmap is set: bits count from the lowest,
// whatever the byte order.
func isSet(b []byte, i uint64) bool { return b[i/8]&(1<<(i%8)) != 0 }

// countBits counts the bits set from bit i up to bit end.
func countBits(b []byte, i, end uint64) (n uint64) {
	for ; i < end && i%64 != 0; i++ {
		n += uint64(b[i/8] >> (i % 8) & 1)
	}
	for words := b[min(i, end)/8 : end/8]; len(words) >= 8; words = words[8:] {
		n += uint64(bits.OnesCount64(binary.LittleEndian.Uint64(words)))
		i += 64
	}
	for ; i < end; i++ {
		n += uint64(b[i/8] >> (i % 8) & 1)
	}
	return n
}

// Ranges implements [physmem.Memory]. It keeps no list: a bitmap in which every
// second bit is set has 64 times its size in ranges. It ends where the file
// does.
func (c *Dump) Ranges() iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		var run physmem.Range
		x := c.Index()
		buf := make([]byte, chunkSize)
		left := c.held(x)
		for pfn := c.StartPFN &^ (chunkPages - 1); pfn < c.EndPFN && left > 0; pfn += chunkPages {
			i := pfn / chunkPages
			if i+1 >= uint64(len(x.before)) {
				break
			}
			if x.before[i] == x.before[i+1] {
				continue
			}
			b, _ := c.readBitmap(buf, pfn)
			for i := max(c.StartPFN, pfn) - pfn; i < min(uint64(len(b))*8, c.EndPFN-pfn) && left > 0; i++ {
				if i%64 == 0 && i+64 <= uint64(len(b))*8 && binary.LittleEndian.Uint64(b[i/8:]) == 0 {
					i += 63
					continue
				}
				if !isSet(b, i) {
					continue
				}
				left--
				addr := (pfn + i) * uint64(c.BlockSize)
				if run.Size > 0 && run.Addr+run.Size == addr {
					run.Size += uint64(c.BlockSize)
					continue
				}
				if run.Size > 0 && !yield(run) {
					return
				}
				run = physmem.Range{Addr: addr, Size: uint64(c.BlockSize)}
			}
		}
		if run.Size > 0 {
			yield(run)
		}
	}
}

// Data implements [physmem.Sparse]: pages of zeros take no room anyway.
func (c *Dump) Data(r physmem.Range) iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) { yield(r) }
}

// held returns how many of the pages have a descriptor within the file.
func (c *Dump) held(x *bitmapIndex) uint64 {
	table := plan.Extent{Off: uint64(c.DescOff()), Size: x.Pages() * plan.DescSize}
	return table.Clip(c.Size) / plan.DescSize
}
