package guest

import (
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
)

var errNoRAM = errors.New("no memory there")

// A ram is a physical memory whose pages are made as they are written to.
type ram struct {
	pages map[uint64][]byte
	next  uint64 // where the next table goes
}

func newRAM() *ram { return &ram{pages: make(map[uint64][]byte), next: 0x100000} }

func (r *ram) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		page, ok := r.pages[at/pageSize]
		if !ok {
			return n, errors.Wrapf(errNoRAM, "%#x", at)
		}
		n += copy(p[n:], page[at%pageSize:])
	}
	return n, nil
}

func (r *ram) page(addr uint64) []byte {
	p, ok := r.pages[addr/pageSize]
	if !ok {
		p = make([]byte, pageSize)
		r.pages[addr/pageSize] = p
	}
	return p
}

func (r *ram) word(addr uint64) uint64 {
	return binary.LittleEndian.Uint64(r.page(addr)[addr%pageSize:])
}

func (r *ram) put(addr, word uint64) {
	binary.LittleEndian.PutUint64(r.page(addr)[addr%pageSize:], word)
}

func (r *ram) put32(addr uint64, word uint32) {
	binary.LittleEndian.PutUint32(r.page(addr)[addr%pageSize:], word)
}

// table makes an empty table.
func (r *ram) table() uint64 {
	r.next += pageSize
	r.page(r.next)
	return r.next
}

// link is what entries for tables have set: all rights, in EPT and out of it.
const link = 7

// place puts the entry for addr into the table of the level wanted, below a
// root of the level given, and makes the tables between. It returns where.
func (r *ram) place(root uint64, level int, addr uint64, want int, entry uint64) uint64 {
	at := root
	for ; ; level-- {
		slot := at + addr/x86.Cover(level)%x86.Entries*8
		if level == want {
			r.put(slot, entry)
			return slot
		}
		if r.word(slot) == 0 {
			r.put(slot, r.table()|link)
		}
		at = r.word(slot) & x86.AddrMask
	}
}
