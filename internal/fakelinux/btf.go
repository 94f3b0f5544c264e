package fakelinux

import (
	"encoding/binary"
	"maps"
)

// Kinds of BTF's types.
const (
	kindInt    = 1
	kindPtr    = 2
	kindArray  = 3
	kindStruct = 4

	btfMagic = 0xeb9f
)

// A BTF writes BTF.
type BTF struct {
	types   []byte
	Strings []byte
	N       uint32 // of types
	strBase uint32
	known   map[string]uint32
}

// NewBTF returns BTF without types; a module's if base is not nil.
func NewBTF(base *BTF) *BTF {
	b := &BTF{Strings: []byte{0}, known: map[string]uint32{"": 0}}
	if base != nil {
		b.N, b.strBase, b.Strings = base.N, uint32(len(base.Strings)), nil
		maps.Copy(b.known, base.known)
	}
	return b
}

// Str adds a string and returns its offset.
func (b *BTF) Str(s string) uint32 {
	off, ok := b.known[s]
	if !ok {
		off = b.strBase + uint32(len(b.Strings))
		b.Strings = append(append(b.Strings, s...), 0)
		b.known[s] = off
	}
	return off
}

// Add adds a type and returns its ID.
func (b *BTF) Add(name string, kind, vlen int, flag bool, size uint32, data ...uint32) uint32 {
	info := uint32(kind)<<24 | uint32(vlen)
	if flag {
		info |= 1 << 31
	}
	for _, v := range append([]uint32{b.Str(name), info, size}, data...) {
		b.types = append(b.types, LE32(v)...)
	}
	b.N++
	return b.N
}

// Int adds an integer.
func (b *BTF) Int(name string, size uint32, signed bool) uint32 {
	data := size * 8
	if signed {
		data |= 1 << 24
	}
	return b.Add(name, kindInt, 0, false, size, data)
}

// Ptr adds a pointer.
func (b *BTF) Ptr(to uint32) uint32 { return b.Add("", kindPtr, 0, false, to) }

// Array adds an array.
func (b *BTF) Array(of uint32, n uint32) uint32 {
	return b.Add("", kindArray, 0, false, 0, of, 1, n)
}

// A Member is one of a struct, its offset in bytes.
type Member struct {
	Name   string
	Type   uint32
	Offset uint32
}

// Struct adds a struct; the offsets of members are in bytes.
func (b *BTF) Struct(name string, size uint32, members ...Member) uint32 {
	var data []uint32
	for _, m := range members {
		data = append(data, b.Str(m.Name), m.Type, 8*m.Offset)
	}
	return b.Add(name, kindStruct, len(members), false, size, data...)
}

// Bytes returns the BTF.
func (b *BTF) Bytes() []byte {
	head := binary.LittleEndian.AppendUint16(nil, btfMagic)
	head = append(head, 1, 0)
	for _, v := range []int{24, 0, len(b.types), len(b.types), len(b.Strings)} {
		head = append(head, LE32(uint32(v))...)
	}
	return append(append(head, b.types...), b.Strings...)
}

// M returns a member.
func M(name string, typ, offset uint32) Member { return Member{name, typ, offset} }
