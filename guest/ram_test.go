package guest

import (
	"encoding/binary"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/internal/x86"
)

var errNoRAM = fakekvm.ErrNoRAM

// A ram is a physical memory whose pages are made as they are written to.
type ram struct {
	*fakekvm.RAM
	next uint64 // where the next table goes
}

func newRAM() *ram { return &ram{RAM: fakekvm.NewRAM(), next: 0x100000} }

func (r *ram) page(addr uint64) []byte { return r.Page(addr) }

func (r *ram) word(addr uint64) uint64 { return r.Word(addr) }

func (r *ram) put(addr, word uint64) { r.Put(addr, word) }

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
