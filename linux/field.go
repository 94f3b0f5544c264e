package linux

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// A TypeError is a struct that BTF does not have.
type TypeError struct{ Type string }

// Error names the type.
func (e *TypeError) Error() string { return "no struct " + e.Type + " in BTF" }

// A MemberError is a member that a struct does not have, or an enumerator that
// an enum does not have.
type MemberError struct {
	Type   string // the struct's name, "" for an anonymous one; "enum NAME"
	Member string
	Path   string // all of the path asked for
}

// Error names the type and the member.
func (e *MemberError) Error() string {
	typ := "struct " + e.Type
	switch {
	case e.Type == "":
		typ = "an anonymous struct"
	case strings.HasPrefix(e.Type, "enum "):
		typ = e.Type
	}
	if e.Path == e.Member {
		return typ + " has no member " + e.Member
	}
	return fmt.Sprintf("%s has no member %s (of %s)", typ, e.Member, e.Path)
}

// A Struct is a struct's or a union's type.
type Struct struct {
	Name  string
	types *types
	typ   btfType
}

// Struct returns a type of the kernel. The error is a [*TypeError] if there is
// none, or wraps [ErrNoBTF].
func (k *Kernel) Struct(name string) (*Struct, error) {
	t, err := k.btf()
	if err != nil {
		return nil, err
	}
	return t.structure(name)
}

func (t *types) structure(name string) (*Struct, error) {
	typ, err := t.named(name)
	if err != nil {
		return nil, err
	}
	return &Struct{name, t, typ}, nil
}

// Size returns the size in bytes.
func (s *Struct) Size() uint64 { return uint64(s.typ.sizeOrType) }

// A Field is a member of a struct, or of one that pointers lead to.
type Field struct {
	Path string // as it was found
	// Size is in bytes; for a bitfield, of the integer that holds it.
	Size uint64
	// Count and Stride are of an array: the number of elements, and their
	// size.
	Count, Stride uint64

	hops      []uint64 // offsets of pointers to follow first
	offset    uint64
	bit, bits uint64 // of a bitfield, within Size bytes at offset
	signed    bool
	types     *types
	typ       btfType // without qualifiers
}

// Valid reports whether the field was resolved.
func (f Field) Valid() bool { return f.types != nil }

// Offset is where the field begins, from the start of the struct that the last
// pointer leads to.
func (f Field) Offset() uint64 { return f.offset }

// Field resolves the first of paths that exists. A path is members' names with
// dots; an index in brackets for arrays; and -> where a pointer is to be
// followed: "arch.mmu->root.hpa", "pid->numbers[0].nr". The last member may be
// anything. Members of anonymous structs and unions are found as in C.
//
// If no path exists, the error is the [*MemberError] of the first.
func (s *Struct) Field(paths ...string) (Field, error) {
	var first error
	for _, path := range paths {
		f, err := s.field(path)
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
	}
	return Field{}, first
}

func (s *Struct) field(path string) (Field, error) {
	f := Field{Path: path, types: s.types, typ: s.typ}
	id := s.typ.id
	for rest := path; rest != ""; {
		name := rest
		if i := strings.IndexAny(rest, ".-["); i >= 0 {
			name = rest[:i]
		}
		rest = rest[len(name):]
		m, ok, err := s.types.lookup(f.typ, name, 0, new(int))
		if err != nil {
			return f, err
		}
		if !ok {
			return f, &MemberError{s.types.str(f.typ.name), name, path}
		}
		f.offset += m.offset / 8
		f.bit, f.bits = m.offset%8, m.bits
		id = m.typ
		for {
			if f.typ, err = s.types.strip(id); err != nil {
				return f, err
			}
			if !strings.HasPrefix(rest, "[") {
				break
			}
			index, after, _ := strings.Cut(rest[1:], "]")
			n, err := strconv.ParseUint(index, 10, 32)
			if err != nil || f.typ.kind != kindArray {
				return f, errors.Errorf("%s: %s is no array", path, name)
			}
			elem, count := f.typ.array()
			size, err := s.types.size(elem)
			if err != nil {
				return f, err
			}
			if n >= count && count != 0 { // 0: as many as were allocated
				return f, errors.Errorf("%s: %s has %d elements", path, name, count)
			}
			f.offset += n * size
			id, rest = elem, after
		}
		switch {
		case rest == "":
		case rest[0] == '.':
			rest = rest[1:]
		case strings.HasPrefix(rest, "->") && f.typ.kind == kindPtr:
			rest = rest[2:]
			f.hops = append(f.hops, f.offset)
			f.offset = 0
			if f.typ, err = s.types.target(f.typ); err != nil {
				return f, err
			}
		default:
			return f, errors.Errorf("%s: %s is no pointer", path, name)
		}
	}
	return f, f.finish(id)
}

// target returns the type that a pointer leads to. Where that is only declared,
// it is the struct of that name: vmlinux declares what a module defines, as
// struct kvm_lapic.
func (t *types) target(ptr btfType) (btfType, error) {
	typ, err := t.strip(typeID(ptr.sizeOrType))
	if err == nil && typ.kind == kindFwd {
		if full, err := t.named(t.str(typ.name)); err == nil {
			return full, nil
		}
	}
	return typ, err
}

// finish fills in what the field's type states.
func (f *Field) finish(id typeID) (err error) {
	if f.Size, err = f.types.size(id); err != nil {
		return err
	}
	switch f.typ.kind {
	case kindArray:
		elem, n := f.typ.array()
		f.Count = n
		f.Stride, err = f.types.size(elem)
	case kindInt:
		f.signed = binary.LittleEndian.Uint32(f.typ.data)>>24&1 != 0
		// Before Linux 4.20 (struct_flag unset) the integer has the
		// bits.
		if data := binary.LittleEndian.Uint32(f.typ.data); f.bits == 0 && uint64(data&0xff) < 8*f.Size {
			f.bits = uint64(data & 0xff)
			f.bit += uint64(data >> 16 & 0xff)
		}
	case kindEnum, kindEnum64:
		f.signed = f.typ.flag
	}
	if f.bits > 64 || f.bit+f.bits > 128 || f.bits == 0 && f.bit != 0 {
		return corrupt("BTF: %s has %d bits at bit %d", f.Path, f.bits, f.bit)
	}
	return err
}

// lookup finds a member by name, in anonymous members as well. All anonymous
// members together are bounded by visits.
func (t *types) lookup(typ btfType, name string, depth int, visits *int) (member, bool, error) {
	if typ.kind != kindStruct && typ.kind != kindUnion {
		return member{}, false, nil
	}
	if depth > maxChain || *visits > maxTypes {
		return member{}, false, corrupt("BTF type %d is nested without end", typ.id)
	}
	if err := t.meter.spend(10 * typ.vlen); err != nil {
		return member{}, false, errors.WithMessage(err, "BTF")
	}
	for i := range typ.vlen {
		*visits++
		m := typ.member(i)
		if m.name != 0 {
			if isString(t.text(m.name), name) {
				return m, true, nil
			}
			continue
		}
		inner, err := t.strip(m.typ)
		if err != nil {
			return member{}, false, err
		}
		if in, ok, err := t.lookup(inner, name, depth+1, visits); ok || err != nil {
			in.offset += m.offset
			return in, ok, err
		}
	}
	return member{}, false, nil
}

// isString reports whether b begins with name and the NUL byte that ends it.
func isString(b []byte, name string) bool {
	return len(b) > len(name) && string(b[:len(name)]) == name && b[len(name)] == 0
}
