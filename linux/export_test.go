package linux

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// A Patch is what a thinned dump has at a virtual address.
type Patch struct {
	Addr uint64
	Data []byte
}

// Prune returns BTF and kallsyms of which nothing is left but the types, by the
// names of structs, and the symbols given. A type that a path needs must be
// named: what only a pointer leads to goes. Sizes, IDs and offsets stay. With
// searched set, a search for kallsyms finds what is left of it.
func (k *Kernel) Prune(structs, symbols []string, searched bool) ([]Patch, error) {
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
		return k.pruneSearched(patches, symbols)
	}
	names, offsets := k.symbols.value.pruned(false, symbols)
	at, _ := k.info.symbol("kallsyms_names")
	return append(patches, Patch{at, names}, Patch{k.symbols.value.place, offsets}), nil
}

// pruneSearched is for kernels whose kallsyms is searched for: all of its
// tables stay as long as they were.
func (k *Kernel) pruneSearched(patches []Patch, symbols []string) ([]Patch, error) {
	p, err := k.findKallsyms()
	if err != nil {
		return nil, err
	}
	names, offsets := k.symbols.value.pruned(true, symbols)
	rest := make([]byte, p.tokenIndex+2*tokens-p.names-uint64(len(names))) // markers and tokens
	if _, err := k.Read(rest, p.names+uint64(len(names))); err != nil {
		return nil, err
	}
	before := make([]byte, p.names-p.relativeBase)
	if _, err := k.Read(before, p.relativeBase); err != nil {
		return nil, err
	}
	return append(patches, Patch{p.offsets, offsets}, Patch{p.relativeBase, before}, Patch{p.names, names},
		Patch{p.names + uint64(len(names)), rest}), nil
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
// TT... with long, and are where the symbol before them is.
func (s *kallsyms) pruned(long bool, symbols []string) (names, offsets []byte) {
	none := byte(slices.IndexFunc(s.token[:], func(t []byte) bool { return string(t) == "T" }))
	for i := range s.start {
		if code, _ := s.compressed(int(s.start[i])); slices.Contains(symbols, s.name(i)) {
			names = append(append(names, byte(len(code))), code...)
			offsets = append(offsets, s.offsets[4*i:4*i+4]...)
		} else {
			n := 1
			if long {
				n = len(code)
			}
			names = append(append(names, byte(n)), bytes.Repeat([]byte{none}, n)...)
			offsets = append(offsets, s.offsets[:4]...)
			copy(offsets[4*i:], offsets[max(4*i-4, 0):])
		}
	}
	_, end := s.compressed(int(s.start[len(s.start)-1]))
	return append(names, make([]byte, end-len(names))...), offsets
}
