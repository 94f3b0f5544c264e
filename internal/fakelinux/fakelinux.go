// Package fakelinux makes kernels by hand, for tests: an image, memory in the
// direct map, page tables, symbols and types.
package fakelinux

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

const (
	imageStart  = 0xffffffff_80000000
	markerEvery = 256
)

// A Form is what kallsyms' offsets mean, as package linux has it.
type Form int

const (
	FromBase Form = iota
	fromPlace
	AbsolutePerCPU
)

// A Kernel is one made by hand: its image, 1 GiB of memory in the direct
// map, page tables, symbols and types.
type Kernel struct {
	Pages   map[uint64][]byte // by physical address
	Symbols map[string]uint64
	Next    uint64   // free memory in the image
	Heap    uint64   // free memory in the direct map
	Lines   []string // of VMCOREINFO
	Types   *BTF

	under physmem.Reader // nil if there is no other memory
	base  uint64
}

const (
	ImageAddr = 0xffffffff81000000
	Direct    = 0xffff888000000000
)

// New returns a kernel without symbols or types.
func New() *Kernel { return Over(nil, 0) }

// Over returns a kernel that has the memory of another machine besides its own,
// which lies from the physical address base on, a multiple of 1 GiB below
// 511 GiB. What it changes of the other's memory is a copy.
func Over(mem physmem.Reader, base uint64) *Kernel {
	f := &Kernel{Pages: map[uint64][]byte{}, Symbols: map[string]uint64{}, Next: ImageAddr, Heap: Direct + base + 0x10000000, Types: NewBTF(nil), under: mem, base: base}
	f.Symbols["_stext"] = ImageAddr
	pgd := f.Image("swapper_pg_dir", make([]byte, 4096))
	table := f.Image("level3", make([]byte, 4096))
	f.Put(pgd+8*273, LE64((table-imageStart+base)|1))
	for _, g := range []uint64{0, base >> 30} {
		f.Put(table+8*g, LE64(g<<30|0x81)) // 1 GiB
	}
	f.Lines = []string{"OSRELEASE=6.99-fake", fmt.Sprintf("NUMBER(phys_base)=%d", base), "KERNELOFFSET=0", "NUMBER(pgtable_l5_enabled)=0"}
	return f
}

// LE64 returns the bytes of a little-endian number.
func LE64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// LE32 returns the bytes of a little-endian number.
func LE32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// ErrMemory means that the kernel does not have the memory.
var ErrMemory = errors.New("no such memory")

// ReadPhys implements physmem.Reader.
func (f *Kernel) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		page := f.Pages[at&^4095]
		switch {
		case page != nil:
			n += copy(p[n:], page[at%4096:])
		case f.under == nil:
			return n, ErrMemory
		default:
			part := p[n:min(len(p), n+int(4096-at%4096))]
			k, err := f.under.ReadPhys(part, at)
			if n += k; k < len(part) {
				return n, err
			}
		}
	}
	return n, nil
}

// Put writes to a virtual address.
func (f *Kernel) Put(addr uint64, b []byte) {
	phys := addr - imageStart + f.base
	if addr < imageStart {
		phys = addr - Direct
	}
	for len(b) > 0 {
		page := f.Pages[phys&^4095]
		if page == nil {
			page = make([]byte, 4096)
			if f.under != nil {
				f.under.ReadPhys(page, phys&^4095)
			}
			f.Pages[phys&^4095] = page
		}
		n := copy(page[phys%4096:], b)
		phys += uint64(n)
		b = b[n:]
	}
}

// Image adds something to the image, with a symbol if it has a name.
func (f *Kernel) Image(name string, b []byte) uint64 {
	addr := (f.Next + 7) &^ 7
	f.Put(addr, b)
	f.Next = addr + uint64(len(b))
	if name != "" {
		f.Symbols[name] = addr
	}
	return addr
}

// MapImage maps the image in the kernel's page tables, by which a guest's
// kernel is found, and returns the physical address of the highest table. Bit
// 12 of that is clear, as for the kernel's table of a pair with page-table
// isolation.
func (f *Kernel) MapImage(levels int) (cr3 uint64) {
	const entries, large = 3, 2 << 20
	f.Symbols["_text"], f.Symbols["init_top_pgt"] = ImageAddr, f.Symbols["swapper_pg_dir"]
	at := func(addr uint64) uint64 { return addr - imageStart + f.base }
	top := f.Symbols["swapper_pg_dir"]
	f.Next = (f.Next + 4095) &^ 4095
	table := func() uint64 { return f.Image("", make([]byte, 4096)) }
	middle, low := table(), table()
	f.Put(top+8*511, LE64(at(middle)|1))
	f.Put(middle+8*510, LE64(at(low)|1))
	for i := range uint64(entries) {
		f.Put(low+8*(8+i), LE64(at(ImageAddr)+i*large|0x81))
	}
	if levels == 5 {
		five := table()
		if at(five)&4096 != 0 {
			five = table()
		}
		f.Put(five+8*511, LE64(at(top)|1))
		f.Symbols["init_top_pgt"], top = five, five
		f.Symbols["swapper_pg_dir"] = five
	}
	return at(top)
}

// Alloc adds an object of so many bytes to the direct map. words are offset and
// value of each of its pointers.
func (f *Kernel) Alloc(size int, words ...uint64) uint64 {
	addr := f.Heap
	f.Heap += uint64(size+7) &^ 7
	f.Put(addr, make([]byte, size))
	for i := 0; i < len(words); i += 2 {
		f.Put(addr+words[i], LE64(words[i+1]))
	}
	return addr
}

// Finish adds the kernel's BTF and kallsyms, and returns its VMCOREINFO.
func (f *Kernel) Finish() string {
	f.Symbols["__start_BTF"] = f.Image("", f.Types.Bytes())
	f.Symbols["__stop_BTF"] = f.Next
	f.Kallsyms(FromBase, false)
	return f.Info()
}

// Info returns the text of VMCOREINFO.
func (f *Kernel) Info() string {
	lines := slices.Clone(f.Lines)
	for _, name := range []string{"_stext", "swapper_pg_dir"} {
		lines = append(lines, fmt.Sprintf("SYMBOL(%s)=%x", name, f.Symbols[name]))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Kallsyms adds the symbols' tables in the order that Linux has since 6.4 or,
// if old is set, had until 6.0. VMCOREINFO names the tables unless old is set.
func (f *Kernel) Kallsyms(form Form, old bool) { f.KallsymsWith(form, old, false) }

// KallsymsWith is Kallsyms; with seqs it adds kallsyms_seqs_of_names, which 6.1
// to 6.3 have in the old order.
func (f *Kernel) KallsymsWith(form Form, old, seqs bool) {
	tokens := make([]string, 256)
	for i := range tokens {
		tokens[i] = string(rune(i))
		if i == 0 || i >= 127 {
			tokens[i] = fmt.Sprintf("tok%d_", i)
		}
	}
	var table, index, names, markers, offsets []byte
	for _, t := range tokens {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(table)))
		table = append(append(table, t...), 0)
	}
	type symbol struct {
		name string
		addr uint64
	}
	var all []symbol
	for name, addr := range f.Symbols {
		all = append(all, symbol{name, addr})
	}
	slices.SortFunc(all, func(a, b symbol) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), strings.Compare(a.name, b.name))
	})
	for i, s := range all {
		if i%markerEvery == 0 {
			markers = append(markers, LE32(uint32(len(names)))...)
		}
		code := encodeName(tokens, "T"+s.name)
		if len(code) >= 0x80 {
			names = append(names, byte(len(code)&0x7f|0x80), byte(len(code)>>7))
		} else {
			names = append(names, byte(len(code)))
		}
		names = append(names, code...)
	}
	const base = ImageAddr
	num := LE32(uint32(len(all)))
	place := map[string]uint64{}
	write := func(name string, b []byte) { place[name] = f.Image("", b) }
	// Offsets from their own place depend on the order of the tables.
	writeOffsets := func() {
		at := (f.Next + 7) &^ 7
		for i, s := range all {
			v := s.addr - base
			switch {
			case form == fromPlace:
				v = s.addr - at - uint64(4*i)
			case form == AbsolutePerCPU && s.addr < imageStart:
				v = s.addr
			case form == AbsolutePerCPU:
				v = base - 1 - s.addr
			}
			offsets = append(offsets, LE32(uint32(v))...)
		}
		write("offsets", offsets)
		if form != fromPlace {
			write("relative_base", LE64(base))
		}
	}
	if old {
		writeOffsets()
	}
	write("num_syms", num)
	write("names", names)
	write("markers", markers)
	if seqs {
		order := make([]byte, 0, 3*len(all))
		for i := range all { // big-endian, a permutation
			n := len(all) - 1 - i
			order = append(order, byte(n>>16), byte(n>>8), byte(n))
		}
		write("seqs_of_names", order)
	}
	write("token_table", table)
	write("token_index", index)
	if old {
		return
	}
	writeOffsets()
	for name, addr := range place {
		f.Lines = append(f.Lines, fmt.Sprintf("SYMBOL(kallsyms_%s)=%x", name, addr))
	}
}

func encodeName(tokens []string, name string) (code []byte) {
	for name != "" {
		best := -1
		for i, t := range tokens {
			if strings.HasPrefix(name, t) && (best < 0 || len(t) > len(tokens[best])) {
				best = i
			}
		}
		code = append(code, byte(best))
		name = name[len(tokens[best]):]
	}
	return code
}
