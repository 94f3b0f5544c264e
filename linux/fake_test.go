package linux

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"
)

// A fake is a kernel made by hand: its image, 1 GiB of memory in the direct
// map, page tables, symbols and types.
type fake struct {
	pages   map[uint64][]byte // by physical address
	symbols map[string]uint64
	next    uint64 // free memory in the image
	heap    uint64 // free memory in the direct map
	info    []string
	btf     *btfMaker
}

const (
	fakeImage  = 0xffffffff81000000
	fakeDirect = 0xffff888000000000
)

func newFake() *fake {
	f := &fake{pages: map[uint64][]byte{}, symbols: map[string]uint64{}, next: fakeImage, heap: fakeDirect + 0x10000000, btf: newBTF(nil)}
	f.symbols["_stext"] = fakeImage
	pgd := f.image("swapper_pg_dir", make([]byte, 4096))
	table := f.image("level3", make([]byte, 4096))
	f.put(pgd+8*273, le64(table-imageStart|1))
	f.put(table, le64(0x81)) // 1 GiB from 0
	f.info = []string{"OSRELEASE=6.99-fake", "NUMBER(phys_base)=0", "KERNELOFFSET=0", "NUMBER(pgtable_l5_enabled)=0"}
	return f
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

var errFake = errors.New("no such memory")

func (f *fake) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		page := f.pages[at&^4095]
		if page == nil {
			return n, errFake
		}
		n += copy(p[n:], page[at%4096:])
	}
	return n, nil
}

// put writes to a virtual address.
func (f *fake) put(addr uint64, b []byte) {
	phys := addr - imageStart
	if addr < imageStart {
		phys = addr - fakeDirect
	}
	for len(b) > 0 {
		page := f.pages[phys&^4095]
		if page == nil {
			page = make([]byte, 4096)
			f.pages[phys&^4095] = page
		}
		n := copy(page[phys%4096:], b)
		phys += uint64(n)
		b = b[n:]
	}
}

// image adds something to the image, with a symbol if it has a name.
func (f *fake) image(name string, b []byte) uint64 {
	addr := (f.next + 7) &^ 7
	f.put(addr, b)
	f.next = addr + uint64(len(b))
	if name != "" {
		f.symbols[name] = addr
	}
	return addr
}

// alloc adds an object of so many bytes to the direct map. words are offset and
// value of each of its pointers.
func (f *fake) alloc(size int, words ...uint64) uint64 {
	addr := f.heap
	f.heap += uint64(size+7) &^ 7
	f.put(addr, make([]byte, size))
	for i := 0; i < len(words); i += 2 {
		f.put(addr+words[i], le64(words[i+1]))
	}
	return addr
}

// open finishes the kernel with its BTF and kallsyms and opens it.
func (f *fake) open(t testing.TB) *Kernel {
	t.Helper()
	f.symbols["__start_BTF"] = f.image("", f.btf.bytes())
	f.symbols["__stop_BTF"] = f.next
	f.kallsyms(fromBase, false)
	return f.reopen(t)
}

func (f *fake) reopen(t testing.TB) *Kernel {
	t.Helper()
	for _, name := range []string{"_stext", "swapper_pg_dir"} {
		f.info = append(f.info, fmt.Sprintf("SYMBOL(%s)=%x", name, f.symbols[name]))
	}
	k, err := Open(f, strings.Join(f.info, "\n")+"\n")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kallsyms adds the symbols' tables: in the order until 6.0 or in that since
// 6.4, of the form that goes with it. Names are put in VMCOREINFO unless the
// order is the old one.
func (f *fake) kallsyms(form offsetForm, old bool) {
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
	for name, addr := range f.symbols {
		all = append(all, symbol{name, addr})
	}
	slices.SortFunc(all, func(a, b symbol) int {
		if a.addr != b.addr {
			if a.addr < b.addr {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	for i, s := range all {
		if i%markerEvery == 0 {
			markers = append(markers, le32(uint32(len(names)))...)
		}
		code := encodeName(tokens, "T"+s.name)
		if len(code) >= 0x80 {
			names = append(names, byte(len(code)&0x7f|0x80), byte(len(code)>>7))
		} else {
			names = append(names, byte(len(code)))
		}
		names = append(names, code...)
	}
	const base = fakeImage
	num := le32(uint32(len(all)))
	place := map[string]uint64{}
	write := func(name string, b []byte) { place[name] = f.image("", b) }
	// The order of the tables decides where offsets are, and so what they
	// say.
	writeOffsets := func() {
		at := (f.next + 7) &^ 7
		for i, s := range all {
			v := s.addr - base
			switch {
			case form == fromPlace:
				v = s.addr - at - uint64(4*i)
			case form == absolutePerCPU && s.addr < imageStart:
				v = s.addr
			case form == absolutePerCPU:
				v = base - 1 - s.addr
			}
			offsets = append(offsets, le32(uint32(v))...)
		}
		write("offsets", offsets)
		if form != fromPlace {
			write("relative_base", le64(base))
		}
	}
	if old {
		writeOffsets()
	}
	write("num_syms", num)
	write("names", names)
	write("markers", markers)
	write("token_table", table)
	write("token_index", index)
	if !old {
		writeOffsets()
	}
	if old {
		return
	}
	for name, addr := range place {
		f.info = append(f.info, fmt.Sprintf("SYMBOL(kallsyms_%s)=%x", name, addr))
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

// A btfMaker writes BTF.
type btfMaker struct {
	types, strings []byte
	n              uint32
	strBase        uint32
	known          map[string]uint32
}

func newBTF(base *btfMaker) *btfMaker {
	b := &btfMaker{strings: []byte{0}, known: map[string]uint32{"": 0}}
	if base != nil {
		b.n, b.strBase, b.strings = base.n, uint32(len(base.strings)), nil
		for s, off := range base.known {
			b.known[s] = off
		}
	}
	return b
}

func (b *btfMaker) str(s string) uint32 {
	off, ok := b.known[s]
	if !ok {
		off = b.strBase + uint32(len(b.strings))
		b.strings = append(append(b.strings, s...), 0)
		b.known[s] = off
	}
	return off
}

func (b *btfMaker) add(name string, kind, vlen int, flag bool, size uint32, data ...uint32) uint32 {
	info := uint32(kind)<<24 | uint32(vlen)
	if flag {
		info |= 1 << 31
	}
	for _, v := range append([]uint32{b.str(name), info, size}, data...) {
		b.types = append(b.types, le32(v)...)
	}
	b.n++
	return b.n
}

func (b *btfMaker) int(name string, size uint32, signed bool) uint32 {
	data := size * 8
	if signed {
		data |= 1 << 24
	}
	return b.add(name, kindInt, 0, false, size, data)
}

func (b *btfMaker) ptr(to uint32) uint32 { return b.add("", kindPtr, 0, false, to) }

func (b *btfMaker) array(of uint32, n uint32) uint32 {
	return b.add("", kindArray, 0, false, 0, of, 1, n)
}

// m is a member, its offset in bytes.
type m struct {
	name   string
	typ    uint32
	offset uint32
}

func (b *btfMaker) structure(name string, size uint32, members ...m) uint32 {
	var data []uint32
	for _, m := range members {
		data = append(data, b.str(m.name), m.typ, 8*m.offset)
	}
	return b.add(name, kindStruct, len(members), false, size, data...)
}

func (b *btfMaker) bytes() []byte {
	head := binary.LittleEndian.AppendUint16(nil, btfMagic)
	head = append(head, 1, 0)
	for _, v := range []int{24, 0, len(b.types), len(b.types), len(b.strings)} {
		head = append(head, le32(uint32(v))...)
	}
	return append(append(head, b.types...), b.strings...)
}
