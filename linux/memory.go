package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

const pageSize = 4096

// An AddressError is a virtual address that could not be read.
type AddressError struct {
	Addr uint64
	Err  error
}

// Error names the address.
func (e *AddressError) Error() string { return fmt.Sprintf("virtual address %#x: %v", e.Addr, e.Err) }

// Unwrap returns Err.
func (e *AddressError) Unwrap() error { return e.Err }

// imagePhys returns where an address in the kernel's image lies in memory.
func (k *Kernel) imagePhys(addr uint64) uint64 { return addr - imageStart + k.physBase }

// Phys translates a kernel's virtual address. What follows it in physical
// memory belongs to it for size bytes.
func (k *Kernel) Phys(addr uint64) (phys, size uint64, err error) {
	if addr >= imageStart && addr < imageStart+maxImage && k.inImage(addr) {
		return k.imagePhys(addr), imageStart + k.offset + imageSize - addr, nil
	}
	return translate(k.tables, addr)
}

// inImage reports whether the address is in the kernel's image, whose place
// VMCOREINFO states. The page tables lead to everything else, modules included.
func (k *Kernel) inImage(addr uint64) bool { return addr-imageStart-k.offset < imageSize }

// imageSize bounds the image, from imageStart on: it is linked to begin at
// 16 MiB (CONFIG_PHYSICAL_START), and the biggest has some 60 MiB.
const imageSize = 96 << 20

func translate(t *x86.Tables, addr uint64) (phys, size uint64, err error) {
	m, err := t.Translate(addr)
	if err != nil {
		return 0, 0, &AddressError{addr, err}
	}
	skip := addr - m.Addr
	return m.Phys + skip, m.Size - skip, nil
}

// Read fills p with the kernel's memory at a virtual address. The error is an
// [*AddressError]; n bytes before it are good.
func (k *Kernel) Read(p []byte, addr uint64) (n int, err error) {
	if err := k.meter.spend(virtualCost + len(p)/16); err != nil {
		return 0, &AddressError{addr, err}
	}
	return readVirtual(p, addr, k.Phys, &k.cache, k.mem)
}

// readVirtual reads memory that translate finds. Small reads go through a cache
// of pages, because structures are read member by member.
func readVirtual(p []byte, addr uint64, translate func(uint64) (phys, size uint64, err error), cache *pageCache, mem physmem.Reader) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		if at < addr {
			return n, &AddressError{at, x86.ErrNotCanonical}
		}
		phys, size, err := translate(at)
		if err != nil {
			return n, err
		}
		part := p[n:]
		part = part[:min(uint64(len(part)), size)]
		var got int
		if uint64(len(part)) <= pageSize-phys%pageSize {
			got, err = cache.read(mem, part, phys)
		} else {
			got, err = mem.ReadPhys(part, phys)
		}
		n += got
		if got < len(part) {
			return n, &AddressError{addr + uint64(n), err}
		}
	}
	return n, nil
}

// pageCache keeps the pages that were read last, 1 MiB.
type pageCache struct {
	pages map[uint64]*cachedPage
	ring  [256]uint64 // page addresses, plus 1
	next  int
}

type cachedPage [pageSize]byte

// read fills p, which lies in one page.
func (c *pageCache) read(mem physmem.Reader, p []byte, phys uint64) (int, error) {
	at := phys &^ (pageSize - 1)
	page := c.pages[at]
	if page == nil {
		if c.pages == nil {
			c.pages = make(map[uint64]*cachedPage)
		}
		old := c.ring[c.next]
		if old != 0 {
			page = c.pages[old-1]
		} else {
			page = new(cachedPage)
		}
		if n, _ := mem.ReadPhys(page[:], at); n < pageSize {
			if old != 0 { // its page was overwritten
				delete(c.pages, old-1)
				c.ring[c.next] = 0
			}
			// A dump may hold a part of a page: the end of memory,
			// a torn file.
			if off := int(phys - at); n >= off+len(p) {
				return copy(p, page[off:]), nil
			}
			return mem.ReadPhys(p, phys)
		}
		if old != 0 {
			delete(c.pages, old-1)
		}
		c.pages[at] = page
		c.ring[c.next] = at + 1
		c.next = (c.next + 1) % len(c.ring)
	}
	return copy(p, page[phys-at:]), nil
}

// uint reads a little-endian number of 1, 2, 4 or 8 bytes at an address.
func (k *Kernel) uint(addr uint64, size int) (uint64, error) {
	var b [8]byte
	if size < 1 || size > 8 {
		return 0, corrupt("a number of %d bytes at %#x", size, addr)
	}
	_, err := k.Read(b[:size], addr)
	return binary.LittleEndian.Uint64(b[:]), err
}

// Pointer reads a pointer at an address.
func (k *Kernel) Pointer(addr uint64) (uint64, error) { return k.uint(addr, 8) }

// CString reads a string that a NUL byte ends, at most max bytes of it.
func (k *Kernel) CString(addr uint64, max int) (string, error) {
	var text []byte
	for len(text) < max {
		part := make([]byte, min(max-len(text), 64, int(pageSize-addr%pageSize)))
		if _, err := k.Read(part, addr); err != nil {
			return string(text), err
		}
		name, _, ended := bytes.Cut(part, []byte{0})
		text = append(text, name...)
		if ended {
			break
		}
		addr += uint64(len(part))
	}
	return string(text), nil
}
