package coretext

import (
	"debug/elf"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// constants says how debug/elf spells the values of those fields that take
// names.
var constants = map[string]func(n uint32) string{
	"e_type":    func(n uint32) string { return elf.Type(n).String() },
	"e_machine": func(n uint32) string { return elf.Machine(n).String() },
	"p_type":    func(n uint32) string { return elf.ProgType(n).String() },
	"sh_type":   func(n uint32) string { return elf.SectionType(n).String() },
	"n_type":    func(n uint32) string { return elf.NType(n).String() },
}

// maxConstant is where the search for a name ends. The values with names that
// lie higher are no core's.
const maxConstant = 0x400

// check refuses keys other than those given; one that ends in _ stands for all
// the fields with that prefix.
func (l *line) check(keys ...string) {
	for _, a := range l.args {
		known := slices.ContainsFunc(keys, func(key string) bool {
			return a.key == key || strings.HasSuffix(key, "_") && strings.HasPrefix(a.key, key)
		})
		if !known {
			l.fail(errors.Errorf("unknown key %q", a.key))
		}
	}
}

// override sets the fields of header, a pointer to a struct, that the line's
// keys with the prefix name.
func (l *line) override(header any, prefix string) {
	for _, a := range l.args {
		if strings.HasPrefix(a.key, prefix) {
			l.fail(set(header, a.key, a.value))
		}
	}
}

// set sets the field of header that the specification calls key to a value: a
// number, or a constant's name.
func set(header any, key, value string) error {
	_, name, _ := strings.Cut(key, "_")
	if name == "offset" {
		name = "off" // debug/elf's name for p_offset and sh_offset
	}
	if name == "" {
		return errors.Errorf("unknown field %q", key)
	}
	field := reflect.ValueOf(header).Elem().FieldByName(strings.ToUpper(name[:1]) + name[1:])
	if !field.IsValid() || !field.CanUint() {
		return errors.Errorf("unknown field %q", key)
	}
	if constant, ok := constants[key]; ok {
		for n := range uint32(maxConstant) {
			if constant(n) == value {
				field.SetUint(uint64(n))
				return nil
			}
		}
	}
	bits := field.Type().Bits()
	if n, err := strconv.ParseInt(value, 0, bits); err == nil { // so that -1 is all ones in any width
		field.SetUint(uint64(n) & (math.MaxUint64 >> (64 - bits)))
		return nil
	}
	n, err := strconv.ParseUint(value, 0, bits)
	if err != nil {
		return errors.Errorf("%s: found %q, expected a number of %d bits", key, value, bits)
	}
	field.SetUint(n)
	return nil
}

// narrow copies a 64-bit header into a 32-bit one, field by field; all ones
// stay all ones.
func narrow(dst, src any) error {
	d, s := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	for i := range d.NumField() {
		name := d.Type().Field(i).Name
		to, from := d.Field(i), s.FieldByName(name)
		switch {
		case !to.CanUint(): // Ident
			to.Set(from)
		case from.Uint() == math.MaxUint64:
			to.SetUint(math.MaxUint32)
		case to.OverflowUint(from.Uint()):
			return errors.Errorf("%s is %#x: does not fit in 32 bits", name, from.Uint())
		default:
			to.SetUint(from.Uint())
		}
	}
	return nil
}
