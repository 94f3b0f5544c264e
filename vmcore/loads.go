package vmcore

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"io"
	"sort"
	"unsafe"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
)

// loads returns the PT_LOADs: the segments without their biggest holes.
func (w *Writer) loads() []part {
	w.keep(maxLoads - len(w.segs))
	loads := make([]part, 0, len(w.segs)+len(w.holes))
	off, holes := w.data, w.holes
	for _, s := range w.segs {
		start := s.Addr
		add := func(end uint64) {
			if start < end {
				loads = append(loads, part{Range: physmem.Between(start, end), off: off + int64(start-s.Addr)})
			}
		}
		for ; len(holes) > 0 && holes[0].Addr < s.End(); holes = holes[1:] {
			add(holes[0].Addr)
			start = holes[0].End()
		}
		add(s.End())
		off += int64(s.Size)
	}
	return loads
}

// within returns the PT_LOADs of those aliases that are within one of the
// loads.
func within(loads []part, aliases []Alias) (ps []part) {
	for _, a := range aliases {
		i := sort.Search(len(loads), func(i int) bool { return loads[i].Addr > a.Addr }) - 1
		if i >= 0 && loads[i].Contains(a.Addr) && a.Size <= loads[i].End()-a.Addr {
			ps = append(ps, part{Range: a.Range, off: loads[i].off + int64(a.Addr-loads[i].Addr), vaddr: a.Vaddr})
		}
	}
	return ps[:min(len(ps), maxAliases)]
}

// head writes what goes before the memory. The program headers are where
// makedumpfile looks for them, directly after the ELF header; then come the
// notes, below all memory, as crash wants them. p_vaddr, but for aliases, and
// p_align are 0, as in a dump of QEMU's that does not know of virtual
// addresses: crash finds the guest's page tables by the notes.
func (w *Writer) head(ns []elfnote.Note, loads []part) error {
	var notes []byte
	for _, n := range ns {
		notes = append(notes, n.Encode(binary.LittleEndian)...)
	}
	phnum := len(loads) + 1
	off := headSize(phnum)
	if int64(len(notes)) > w.room || off+w.room > w.data {
		return errors.Errorf("%d bytes of notes, expected at most %d", len(notes), w.room)
	}
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{elf.EI_CLASS: byte(elf.ELFCLASS64), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: uint64(headSize(0)), Ehsize: uint16(headSize(0)), Phentsize: uint16(unsafe.Sizeof(elf.Prog64{})), Phnum: uint16(phnum),
	}
	copy(h.Ident[:], elf.ELFMAG)
	out := bufio.NewWriter(io.NewOffsetWriter(w.out, 0))
	put := func(v any) { binary.Write(out, binary.LittleEndian, v) } // out keeps the first error
	put(h)
	put(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: uint64(off), Filesz: uint64(len(notes)), Memsz: uint64(len(notes))})
	for _, l := range loads {
		put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X),
			Off: uint64(l.off), Vaddr: l.vaddr, Paddr: l.Addr, Filesz: l.Size, Memsz: l.Size})
	}
	out.Write(notes)
	return out.Flush()
}
