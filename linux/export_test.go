package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// A Patch is what a thinned dump has at a virtual address.
type Patch struct {
	Addr uint64
	Data []byte
}

// Prune returns BTF and kallsyms of which nothing is left but the types, by the
// names of structs, and the symbols given. A type that a path needs must be
// named: what only a pointer leads to goes. Sizes, IDs and offsets stay. With
// searched set, a search for kallsyms finds what is left of it. The symbols of
// sample are kept as well, but not what tells that an address belongs to them.
func (k *Kernel) Prune(structs, symbols, sample []string, searched bool) ([]Patch, error) {
	symbols = append(symbols, "__start_BTF", "__stop_BTF", "_stext", "swapper_pg_dir")
	base, err := k.btf()
	if err != nil {
		return nil, err
	}
	p := pruner{structs: structs, kept: map[typeID]bool{}, text: map[uint32]bool{}}
	start, _ := k.Symbol("__start_BTF")
	places := map[*types]uint64{base: start}
	p.keep(base)
	modules, err := k.Modules()
	if err != nil {
		return nil, err
	}
	// A module's IDs begin where the kernel's end, so each has a set of its
	// own above the kernel's.
	own := map[*types]map[typeID]bool{}
	for _, m := range modules {
		if t, err := m.types.get(m.readTypes); err == nil {
			places[t] = k.split.value[m.Addr].data
			p.keep(t)
			own[t] = p.kept
			p.kept = map[typeID]bool{}
			for id := range own[t] {
				if uint32(id) < t.first {
					p.kept[id] = true
				}
			}
		}
	}
	own[base] = p.kept
	var patches []Patch
	for t, addr := range places {
		patches = append(patches, Patch{addr, t.pruned(own[t], p.text)})
	}
	if _, ok, _ := k.kallsymsInfo(); !ok || searched {
		return k.pruneSearched(patches, symbols, sample)
	}
	names, offsets := k.symbols.value.pruned(false, symbols, sample)
	at, _ := k.info.symbol("kallsyms_names")
	return append(patches, Patch{at, names}, Patch{k.symbols.value.place, offsets}), nil
}

// pruneSearched is for kernels whose kallsyms is searched for: all of its
// tables stay as long as they were. kallsyms_seqs_of_names, which no search
// reads, is left out.
func (k *Kernel) pruneSearched(patches []Patch, symbols, sample []string) ([]Patch, error) {
	p, err := (&tableFinder{k: k}).find()
	if err != nil {
		return nil, err
	}
	names, offsets := k.symbols.value.pruned(true, symbols, sample)
	patches = append(patches, Patch{p.offsets, offsets}, Patch{p.names, names})
	after := p.names + uint64(len(names))
	for _, keep := range []span{
		{p.relativeBase, 8}, {p.names - 16, 16}, {after, 4*(p.num+markerEvery-1)/markerEvery + 16},
		{p.tokenTable, p.tokenIndex + 2*tokens - p.tokenTable},
	} {
		b := make([]byte, keep.size)
		if _, err := k.Read(b, keep.addr); err != nil {
			return nil, err
		}
		patches = append(patches, Patch{keep.addr, b})
	}
	return patches, nil
}

type pruner struct {
	structs []string
	kept    map[typeID]bool
	text    map[uint32]bool
}

func (p *pruner) keep(t *types) {
	for _, name := range p.structs {
		if typ, err := t.named(name); err == nil {
			p.visit(t, typ.id)
		}
	}
}

func (p *pruner) visit(t *types, id typeID) {
	if id == 0 || p.kept[id] {
		return
	}
	typ, err := t.get(id)
	if err != nil {
		return
	}
	p.kept[id] = true
	p.text[typ.name] = true
	switch typ.kind {
	case kindStruct, kindUnion:
		for i := range typ.vlen {
			m := typ.member(i)
			p.text[m.name] = true
			p.visit(t, m.typ)
		}
	case kindArray:
		elem, _ := typ.array()
		p.visit(t, elem)
	case kindTypedef, kindConst, kindVolatile, kindRestrict, kindTypeTag:
		p.visit(t, typeID(typ.sizeOrType))
	case kindPtr:
		to, err := t.strip(typeID(typ.sizeOrType))
		if err == nil && (to.kind == kindStruct || to.kind == kindFwd) && slices.Contains(p.structs, t.str(to.name)) {
			p.visit(t, typeID(typ.sizeOrType))
		}
	}
}

// pruned returns the BTF with no type but those kept.
func (t *types) pruned(kept map[typeID]bool, text map[uint32]bool) []byte {
	var b []byte
	for i, at := range t.offsets {
		end := len(t.types)
		if i+1 < len(t.offsets) {
			end = int(t.offsets[i+1])
		}
		if kept[typeID(t.first)+typeID(i)] {
			b = append(b, t.types[at:end]...)
		} else {
			b = append(b, 0, 0, 0, 0, 0, 0, 0, kindFwd, 0, 0, 0, 0)
		}
	}
	strings := make([]byte, len(t.strings))
	for off := range text {
		if i := off - t.strBase; off >= t.strBase && int(i) < len(strings) {
			copy(strings[i:], t.str(off))
		}
	}
	all := binary.LittleEndian.AppendUint16(nil, btfMagic)
	all = append(all, 1, 0)
	for _, v := range []int{24, 0, len(b), len(b), len(strings)} {
		all = binary.LittleEndian.AppendUint32(all, uint32(v))
	}
	all = append(append(all, b...), strings...)
	return append(all, make([]byte, max(0, len(t.types)-len(b)))...)
}

// pruned returns kallsyms' names and offsets: other symbols are called T, or
// TT... with long, and are where the symbol before them is. If offsets count
// from their own place, that is so only after one of symbols: numbers that are
// all different take much room in a packed core.
func (s *kallsyms) pruned(long bool, symbols, sample []string) (names, offsets []byte) {
	exact := false
	none := byte(slices.IndexFunc(s.token[:], func(t []byte) bool { return string(t) == "T" }))
	for i := range s.start {
		name := s.name(i)
		asked := slices.Contains(symbols, name)
		if code, _ := s.compressed(int(s.start[i])); asked || slices.Contains(sample, name) {
			exact = asked
			names = append(append(names, byte(len(code))), code...)
			offsets = append(offsets, s.offsets[4*i:4*i+4]...)
		} else {
			n := 1
			if long {
				n = len(code)
			}
			names = append(append(names, byte(n)), bytes.Repeat([]byte{none}, n)...)
			before := offsets[max(4*i-4, 0):]
			if i == 0 {
				before = s.offsets
			}
			v := binary.LittleEndian.Uint32(before)
			if s.form == fromPlace && exact {
				v -= 4
			}
			offsets = binary.LittleEndian.AppendUint32(offsets, v)
		}
	}
	_, end := s.compressed(int(s.start[len(s.start)-1]))
	return append(names, make([]byte, end-len(names))...), offsets
}

// Levels returns how many levels the kernel's page tables have.
func (k *Kernel) Levels() int { return k.levels }

// Symbols returns the number of symbols in the kernel's image.
func (k *Kernel) Symbols() (int, error) {
	s, err := k.kallsyms()
	if err != nil {
		return 0, err
	}
	return len(s.start), nil
}

// SymbolLine returns symbol i as /proc/kallsyms has it.
func (k *Kernel) SymbolLine(i int) string {
	s, err := k.kallsyms()
	if err != nil || i >= len(s.start) {
		return ""
	}
	name, _ := s.compressed(int(s.start[i]))
	text := s.expand(nil, name)
	return fmt.Sprintf("%016x %c %s", s.addr(i), text[0], text[1:])
}

// ReadBy has the kernel read mem from now on. It keeps kallsyms and BTF alone.
func (k *Kernel) ReadBy(mem physmem.Reader) {
	*k = Kernel{mem: mem, info: k.info, physBase: k.physBase, offset: k.offset, levels: k.levels, tables: k.tables,
		image: k.image, symbols: k.symbols, types: k.types}
	k.tables = x86.NewTables(mem, k.tables.Format(), k.tables.Root())
}

// PruneORC returns the pages of the ORC tables with nothing left but what leads
// to the entries of the addresses.
func (k *Kernel) PruneORC(addrs []uint64) (patches []Patch, err error) {
	o, err := k.orc()
	if err != nil {
		return nil, err
	}
	var keep []span
	for i := range uint64(64) {
		keep = append(keep, span{o.image.entries + i*o.image.num/64*o.fields.size, o.fields.size})
	}
	for _, addr := range addrs {
		for lo, hi := uint64(0), o.image.num; lo < hi; {
			mid := (lo + hi) / 2
			keep = append(keep, span{o.image.addrs + mid*orcAddressSize, orcAddressSize})
			at, err := k.orcFind(orcTable{o.image.addrs + mid*orcAddressSize, 0, 1}, addr)
			if err == nil && at == 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if i, err := k.orcFind(o.image, addr); err == nil {
			keep = append(keep, span{o.image.entries + i*o.fields.size, o.fields.size})
		}
	}
	tables := []span{{o.image.addrs, o.image.num * orcAddressSize}, {o.image.entries, o.image.num * o.fields.size}}
	pages := map[uint64][]byte{}
	for _, s := range keep {
		for at := s.addr; at < s.addr+s.size; at++ {
			page := at &^ (pageSize - 1)
			if pages[page] == nil {
				pages[page] = make([]byte, pageSize)
				if _, err := k.Read(pages[page], page); err != nil {
					return nil, err
				}
				for i := range pages[page] {
					for _, t := range tables {
						if page+uint64(i)-t.addr < t.size {
							pages[page][i] = 0
						}
					}
				}
			}
			if _, err := k.Read(pages[page][at-page:][:1], at); err != nil {
				return nil, err
			}
		}
	}
	for at, b := range pages {
		patches = append(patches, Patch{at, b})
	}
	return patches, nil
}

// Cost returns what a kernel of Find has cost: the units of time, and the bytes
// that are kept.
func (k *Kernel) Cost() (time, kept int64) { return maxCost - k.meter.left, maxRoom - k.meter.room }

// What a kernel of Find may cost.
const (
	MaxCost = maxCost
	MaxRoom = maxRoom
)
