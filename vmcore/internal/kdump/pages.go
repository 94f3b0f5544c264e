package kdump

import (
	"cmp"
	"fmt"
	"io"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// A PageDesc is struct page_desc: where a page's data lies.
type PageDesc struct {
	Data  plan.Extent // offset and size in the file
	flags uint32      // how it is compressed
}

// Desc decodes the page descriptor at the start of b.
func (h *Header) Desc(b []byte) PageDesc {
	return PageDesc{plan.Extent{Off: h.Order.Uint64(b), Size: uint64(h.Order.Uint32(b[8:]))}, h.Order.Uint32(b[12:])}
}

const (
	descsAtOnce = 128
	readAhead   = 64 << 10
)

// A pageReader reads pages for one caller at a time. It keeps the parts of
// bitmap, descriptors and data that it read last: most callers read by rising
// address, and everything in the file has that order.
type pageReader struct {
	c *Dump

	chunk   uint64 // number of the bitmap's chunk in bits
	bits    []byte
	bit     uint64 // of which rank is the count of those set before
	rank    uint64
	bitsBuf [chunkSize]byte

	firstDesc uint64 // number of the first descriptor in descs
	descs     []byte
	descsBuf  [descsAtOnce * plan.DescSize]byte

	dataOff uint64 // file offset of data
	data    []byte
	dataBuf []byte
	nextOff uint64 // where the data of the page read last ended

	codec Codec
}

// ReadPhys implements [physmem.Memory].
func (c *Dump) ReadPhys(p []byte, addr uint64) (n int, err error) {
	r := c.pages.get(c)
	defer c.pages.put(r)
	for n < len(p) {
		at := addr + uint64(n)
		k, err := 0, plan.ErrNoMemory
		if at >= addr {
			k, err = r.read(p[n:], at)
		}
		if err != nil {
			return n, &plan.AddressError{Addr: at, Err: err}
		}
		n += k
	}
	return n, nil
}

// read fills p with memory from addr on, to the end of the page at most.
func (r *pageReader) read(p []byte, addr uint64) (int, error) {
	size := uint64(r.c.BlockSize)
	pfn, skip := addr/size, addr%size
	if skip == 0 && uint64(len(p)) >= size {
		return int(size), r.page(p[:size], pfn)
	}
	page, ok := r.c.cache.get(pfn)
	if !ok {
		page = make([]byte, size)
		if err := r.page(page, pfn); err != nil {
			return 0, err
		}
		r.c.cache.put(pfn, page)
	}
	return copy(p, page[skip:]), nil
}

// page fills p, which is of a page's size, with the page.
func (r *pageReader) page(p []byte, pfn uint64) error {
	n, err := r.number(pfn)
	if err != nil {
		return err
	}
	d, off, err := r.descriptor(n)
	if err != nil {
		return err
	}
	if err := r.c.checkDesc(d, off); err != nil {
		return err
	}
	src, err := r.bytes(d.Data)
	if err != nil {
		return err
	}
	if err := r.codec.Inflate(p, src, d.flags); err != nil {
		return errors.Wrapf(err, "page data (%v)", d.Data)
	}
	return nil
}

// number returns the number of the page's descriptor.
func (r *pageReader) number(pfn uint64) (uint64, error) {
	c := r.c
	switch {
	case pfn >= c.MaxMapnr:
		return 0, plan.ErrNoMemory
	case pfn < c.StartPFN || pfn >= c.EndPFN:
		return 0, errors.Wrapf(plan.ErrOtherPiece, "this one has PFNs %v", c.PFNs())
	}
	x := c.Index()
	chunk, bit := pfn/chunkPages, pfn%chunkPages
	if chunk+1 >= uint64(len(x.before)) {
		return 0, cmp.Or(x.err, error(plan.ErrChanged))
	}
	if chunk != r.chunk || r.bits == nil {
		b, err := c.readBitmap(r.bitsBuf[:], chunk*chunkPages)
		if err != nil && len(b) == 0 {
			return 0, err
		}
		r.chunk, r.bits, r.bit, r.rank = chunk, b, 0, 0
	}
	if bit >= uint64(len(r.bits))*8 {
		return 0, cmp.Or(x.err, error(plan.ErrChanged))
	}
	if !isSet(r.bits, bit) {
		return 0, c.whyNot(pfn)
	}
	if bit < r.bit {
		r.bit, r.rank = 0, 0
	}
	r.rank += countBits(r.bits, r.bit, bit)
	r.bit = bit
	return x.before[chunk] + r.rank - x.first, nil
}

// whyNot returns the reason why the dump does not hold a page.
func (c *Dump) whyNot(pfn uint64) error {
	dumped, there := c.Bitmaps()
	var b [1]byte
	if dumped == there {
		return plan.ErrNoMemory
	}
	if err := c.Read(b[:], there+int64(pfn/8)); err != nil {
		return err
	}
	if isSet(b[:], pfn%8) {
		return plan.ErrExcluded
	}
	return plan.ErrNoMemory
}

// descriptor returns descriptor n, and where it lies in the file.
func (r *pageReader) descriptor(n uint64) (PageDesc, int64, error) {
	off := r.c.DescOff() + int64(n)*plan.DescSize
	if i := n - r.firstDesc; n < r.firstDesc || i >= uint64(len(r.descs)/plan.DescSize) {
		r.firstDesc = n - n%descsAtOnce
		k, err := r.c.R.ReadAt(r.descsBuf[:], r.c.DescOff()+int64(r.firstDesc)*plan.DescSize)
		r.descs = r.descsBuf[:k]
		if (n-r.firstDesc+1)*plan.DescSize > uint64(k) {
			if errors.Is(err, io.EOF) {
				err = plan.ErrTruncated
			}
			return PageDesc{}, off, errors.Wrapf(err, "page descriptor %d at %#x", n, off)
		}
	}
	return r.c.Desc(r.descs[(n-r.firstDesc)*plan.DescSize:]), off, nil
}

// fits reports whether page data can have the size in the descriptor.
func (h *Header) fits(d PageDesc) bool {
	size := uint64(h.BlockSize)
	return d.Data.Size > 0 && d.Data.Size <= size && (d.flags&compressed != Raw || d.Data.Size == size)
}

// checkDesc makes sure that the descriptor at off leads to page data.
func (c *Dump) checkDesc(d PageDesc, off int64) error {
	x := c.Index()
	data := x.Data
	switch _, ok := d.Data.End(); {
	case d.Data.Off == 0:
		return errors.Wrapf(plan.ErrTruncated, "page descriptor at %#x was never written", off)
	case !c.fits(d):
		return plan.FormatErrorf(off+8, "size of page data", fmt.Sprintf("%#x", d.Data.Size), "a page of %#x bytes, or less if compressed", c.BlockSize)
	case !ok:
		return plan.FormatErrorf(off, "offset of page data", d.Data.String(), "an end below 2^63")
	case d.Data.Off < data && x.err == nil || d.Data.Off < uint64(c.DescOff()):
		return plan.FormatErrorf(off, "offset of page data", d.Data.String(), "data from %#x on, after the descriptors", data)
	case d.Data.Overlaps(c.Note):
		return plan.FormatErrorf(off, "offset of page data", d.Data.String(), "data apart from the notes (%v)", c.Note)
	case !d.Data.Within(c.Size):
		return errors.Wrapf(plan.ErrTruncated, "page data (%v), the file has %#x bytes", d.Data, c.Size)
	}
	return nil
}

// bytes returns a page's data. It reads ahead if that begins where the data of
// the page read last ended.
func (r *pageReader) bytes(e plan.Extent) ([]byte, error) {
	if i := e.Off - r.dataOff; e.Off < r.dataOff || i > uint64(len(r.data)) || e.Size > uint64(len(r.data))-i {
		n := e.Size
		if e.Off == r.nextOff {
			n = max(n, min(readAhead, uint64(r.c.Size)-e.Off))
		}
		if uint64(len(r.dataBuf)) < n {
			r.dataBuf = make([]byte, max(n, uint64(r.c.BlockSize)))
		}
		r.data = nil
		if err := r.c.Read(r.dataBuf[:n], int64(e.Off)); err != nil {
			return nil, err
		}
		r.dataOff, r.data = e.Off, r.dataBuf[:n]
	}
	r.nextOff = e.Off + e.Size
	i := e.Off - r.dataOff
	return r.data[i : i+e.Size], nil
}

// pageReaders keeps page readers for the next call, the one used last first: a
// caller that reads on gets the reader with the right buffers.
type pageReaders struct {
	sync.Mutex
	free []*pageReader
}

func (p *pageReaders) get(c *Dump) *pageReader {
	p.Lock()
	defer p.Unlock()
	if n := len(p.free); n > 0 {
		r := p.free[n-1]
		p.free = p.free[:n-1]
		return r
	}
	return &pageReader{c: c}
}

func (p *pageReaders) put(r *pageReader) {
	p.Lock()
	defer p.Unlock()
	p.free = append(p.free, r)
}

// A pageCache keeps the last pages of which a part was read, so that reads of
// memory in small pieces do not inflate a page for each.
type pageCache struct {
	sync.Mutex
	pages [16]cachedPage
	next  int
}

type cachedPage struct {
	pfn  uint64
	data []byte // never changed
}

func (p *pageCache) get(pfn uint64) ([]byte, bool) {
	p.Lock()
	defer p.Unlock()
	for _, c := range p.pages {
		if c.pfn == pfn && c.data != nil {
			return c.data, true
		}
	}
	return nil, false
}

func (p *pageCache) put(pfn uint64, data []byte) {
	p.Lock()
	defer p.Unlock()
	p.pages[p.next] = cachedPage{pfn, data}
	p.next = (p.next + 1) % len(p.pages)
}
