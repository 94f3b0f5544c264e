package linux

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/pkg/errors"
)

const (
	btfMagic = 0xeb9f
	// maxBTF bounds the BTF of a kernel or a module: Linux 6.12 has 5 MB.
	maxBTF = 32 << 20
	// maxTypes is what the kernel accepts (BTF_MAX_TYPE).
	maxTypes = 1 << 20
)

// Kinds of types (include/uapi/linux/btf.h).
const (
	kindVoid = iota
	kindInt
	kindPtr
	kindArray
	kindStruct
	kindUnion
	kindEnum
	kindFwd
	kindTypedef
	kindVolatile
	kindConst
	kindRestrict
	kindFunc
	kindFuncProto
	kindVar
	kindDatasec
	kindFloat
	kindDeclTag
	kindTypeTag
	kindEnum64
)

// types is BTF: that of vmlinux, or a module's, whose type IDs and strings
// continue those of its base.
type types struct {
	base    *types
	types   []byte
	strings []byte
	offsets []uint32 // of each type, in types; the first is first's
	first   uint32   // the ID of the first type
	strBase uint32   // where strings begin in the strings of both

	meter *meter             // nil for no bound
	known map[string]btfType // the structs and unions that named has found
}

// A typeID is a type of some types or of its base.
type typeID uint32

// A btfType is the fixed part of a type.
type btfType struct {
	id         typeID
	name       uint32
	kind       int
	vlen       int
	flag       bool   // of a struct: members have bitfields in their offsets
	sizeOrType uint32 // by the kind
	data       []byte // what follows
}

// parseBTF parses BTF. base is nil for a kernel's.
func parseBTF(b []byte, base *types) (*types, error) {
	if len(b) < 24 || binary.LittleEndian.Uint16(b) != btfMagic || b[2] != 1 {
		return nil, corrupt("BTF does not begin with its magic")
	}
	word := func(off int) uint64 { return uint64(binary.LittleEndian.Uint32(b[off:])) }
	head := word(4)
	part := func(off, n uint64) ([]byte, error) {
		if off += head; off > uint64(len(b)) || n > uint64(len(b))-off {
			return nil, corrupt("BTF has %d bytes at %#x, but ends at %#x", n, off, len(b))
		}
		return b[off : off+n : off+n], nil
	}
	t := &types{base: base, first: 1}
	var err error
	if t.types, err = part(word(8), word(12)); err != nil {
		return nil, err
	}
	if t.strings, err = part(word(16), word(20)); err != nil {
		return nil, err
	}
	if base != nil {
		t.first = base.first + uint32(len(base.offsets))
		t.strBase = base.strBase + uint32(len(base.strings))
	}
	return t, t.index()
}

// index finds where each type begins.
func (t *types) index() error {
	t.offsets = make([]uint32, 0, len(t.types)/24)
	for at := 0; at < len(t.types); {
		if len(t.offsets) == maxTypes {
			return corrupt("BTF has more than %d types", maxTypes)
		}
		if len(t.types)-at < 12 {
			return corrupt("BTF ends inside type %d", int(t.first)+len(t.offsets))
		}
		info := binary.LittleEndian.Uint32(t.types[at+4:])
		size, ok := dataSize(int(info>>24&0x1f), int(info&0xffff))
		if !ok || size > len(t.types)-at-12 {
			return corrupt("BTF type %d: kind %d with %d bytes", int(t.first)+len(t.offsets), info>>24&0x1f, size)
		}
		t.offsets = append(t.offsets, uint32(at))
		at += 12 + size
	}
	return nil
}

// dataSize is the number of bytes that follow a type's fixed part.
func dataSize(kind, vlen int) (int, bool) {
	switch kind {
	case kindPtr, kindFwd, kindTypedef, kindVolatile, kindConst, kindRestrict, kindFunc, kindFloat, kindTypeTag:
		return 0, true
	case kindInt, kindVar, kindDeclTag:
		return 4, true
	case kindArray:
		return 12, true
	case kindStruct, kindUnion, kindDatasec, kindEnum64:
		return 12 * vlen, true
	case kindEnum, kindFuncProto:
		return 8 * vlen, true
	}
	return 0, false
}

// get returns a type by its ID.
func (t *types) get(id typeID) (btfType, error) {
	if id == 0 {
		return btfType{}, nil
	}
	for t.base != nil && uint32(id) < t.first {
		t = t.base
	}
	i := uint32(id) - t.first
	if uint64(i) >= uint64(len(t.offsets)) {
		return btfType{}, corrupt("BTF has no type %d", id)
	}
	b := t.types[t.offsets[i]:]
	info := binary.LittleEndian.Uint32(b[4:])
	typ := btfType{
		id: id, name: binary.LittleEndian.Uint32(b), kind: int(info >> 24 & 0x1f), vlen: int(info & 0xffff),
		flag: info>>31 != 0, sizeOrType: binary.LittleEndian.Uint32(b[8:]),
	}
	size, _ := dataSize(typ.kind, typ.vlen)
	typ.data = b[12 : 12+size]
	return typ, nil
}

// text returns the strings from an offset on.
func (t *types) text(off uint32) []byte {
	for t.base != nil && off < t.strBase {
		t = t.base
	}
	return from(t.strings, off-t.strBase)
}

// from returns what b has from an offset on: nothing if it ends before.
func from(b []byte, off uint32) []byte { return b[min(uint64(off), uint64(len(b))):] }

// str returns the string at an offset, as much of it as a name can have.
func (t *types) str(off uint32) string {
	s := t.text(off)
	s, _, _ = bytes.Cut(s[:min(len(s), maxText)], []byte{0})
	return string(s)
}

// maxNamesakes bounds how often a name may be in the strings: once in sound
// BTF, and once more in its base's.
const maxNamesakes = 16

// named returns a struct or a union by its name: this BTF's own, else its
// base's.
func (t *types) named(name string) (btfType, error) {
	if typ, ok := t.known[name]; ok {
		return typ, nil
	}
	typ, err := t.find(name, kindStruct, kindUnion)
	if err == nil {
		if t.known == nil {
			t.known = map[string]btfType{}
		}
		t.known[name] = typ
	}
	return typ, err
}

// find returns a type by its name and its kind. Strings are there once each, so
// types are compared by the offset.
func (t *types) find(name string, kinds ...byte) (btfType, error) {
	key := append(append([]byte{0}, name...), 0)
	tries := maxNamesakes
	for ; t != nil; t = t.base {
		// The name may be in this BTF's strings or in its base's.
		for s := t; s != nil; s = s.base {
			for rest, off := s.strings, 0; tries > 0; tries-- {
				i := bytes.Index(rest, key)
				through := len(rest)
				if i >= 0 {
					through = i + 4*len(t.offsets)
				}
				if err := t.meter.spend(through + through/2); err != nil {
					return btfType{}, errors.WithMessage(err, "BTF")
				}
				if i < 0 {
					break
				}
				if typ, ok := t.withName(s.strBase+uint32(off+i+1), kinds); ok {
					return typ, nil
				}
				off, rest = off+i+1, rest[i+1:]
			}
		}
	}
	return btfType{}, &TypeError{name}
}

// withName returns a type of some kinds that has the name at an offset.
func (t *types) withName(name uint32, kinds []byte) (btfType, bool) {
	for i, at := range t.offsets {
		b := t.types[at:]
		if binary.LittleEndian.Uint32(b) != name {
			continue
		}
		if slices.Contains(kinds, b[7]&0x1f) {
			typ, err := t.get(typeID(t.first + uint32(i)))
			return typ, err == nil
		}
	}
	return btfType{}, false
}

// maxChain bounds a chain of typedefs and qualifiers, and how deep arrays and
// anonymous members lie in each other. C's own limit is below it.
const maxChain = 64

// strip follows typedefs and qualifiers.
func (t *types) strip(id typeID) (btfType, error) {
	for range maxChain {
		typ, err := t.get(id)
		if err != nil {
			return typ, err
		}
		switch typ.kind {
		case kindTypedef, kindVolatile, kindConst, kindRestrict, kindTypeTag:
			id = typeID(typ.sizeOrType)
		default:
			return typ, nil
		}
	}
	return btfType{}, corrupt("BTF type %d is a chain without end", id)
}

// size returns the size of a type in bytes.
func (t *types) size(id typeID) (uint64, error) {
	count := uint64(1)
	for range maxChain {
		typ, err := t.strip(id)
		if err != nil {
			return 0, err
		}
		switch typ.kind {
		case kindPtr:
			return count * 8, nil
		case kindInt, kindStruct, kindUnion, kindEnum, kindEnum64, kindFloat:
			if size := count * uint64(typ.sizeOrType); size/count == uint64(typ.sizeOrType) && size <= 1<<32 {
				return size, nil
			}
			return 0, corrupt("BTF type %d is too big", id)
		case kindArray:
			elem, n := typ.array()
			if count *= n; n > 1<<32 || count > 1<<32 {
				return 0, corrupt("BTF type %d is too big", id)
			}
			if count == 0 {
				return 0, nil
			}
			id = elem
		default:
			return 0, errors.WithMessagef(ErrCorrupt, "BTF type %d of kind %d has no size", id, typ.kind)
		}
	}
	return 0, corrupt("BTF type %d is a chain without end", id)
}

// array returns the type and the number of an array's elements.
func (typ btfType) array() (elem typeID, n uint64) {
	return typeID(binary.LittleEndian.Uint32(typ.data)), uint64(binary.LittleEndian.Uint32(typ.data[8:]))
}

// A member of a struct or a union.
type member struct {
	name   uint32
	typ    typeID
	offset uint64 // in bits
	bits   uint64 // of a bitfield, else 0
}

func (typ btfType) member(i int) member {
	b := typ.data[12*i:]
	m := member{name: binary.LittleEndian.Uint32(b), typ: typeID(binary.LittleEndian.Uint32(b[4:])),
		offset: uint64(binary.LittleEndian.Uint32(b[8:]))}
	if typ.flag {
		m.bits = m.offset >> 24
		m.offset &= 0xffffff
	}
	return m
}
