package jsonstream

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value writes v as encoding/json does, but for strings that are no UTF-8: see
// text. It takes what documents are made of: structs, maps by strings, slices,
// strings, integers and truth values.
//
// It is not done by encoding/json, which puts U+FFFD in place of all bytes that
// are no UTF-8, so that different names become equal, and would add 2 % to the
// program.
func (s *Stream) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map, reflect.Invalid:
		if !v.IsValid() || v.IsNil() {
			s.w.WriteString("null")
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		s.value(v.Elem())
	case reflect.String:
		s.quote(text(v.String()))
	case reflect.Bool:
		s.w.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.w.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.w.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Slice:
		s.within("[]", func() {
			for i := range v.Len() {
				s.next()
				s.value(v.Index(i))
			}
		})
	case reflect.Map:
		values := make(map[string]reflect.Value)
		for i := v.MapRange(); i.Next(); {
			values[i.Key().String()] = i.Value()
		}
		s.within("{}", func() {
			for _, key := range slices.Sorted(maps.Keys(values)) {
				s.name(text(key))
				s.value(values[key])
			}
		})
	case reflect.Struct:
		s.within("{}", func() { s.fields(v) })
	default:
		if s.err == nil {
			s.err = fmt.Errorf("a %s in a JSON document", v.Type())
		}
	}
}

// fields writes the fields of a struct. Those of an embedded one are among
// them.
func (s *Stream) fields(v reflect.Value) {
	for i := range v.NumField() {
		field, f := v.Type().Field(i), v.Field(i)
		tag, tagged := field.Tag.Lookup("json")
		if field.Anonymous && !tagged {
			if f = reflect.Indirect(f); f.IsValid() {
				s.fields(f)
			}
			continue
		}
		if !field.IsExported() || tag == "-" {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		if option == "omitempty" && empty(f) {
			continue
		}
		s.name(cmp.Or(name, field.Name))
		s.value(f)
	}
}

// empty reports whether encoding/json leaves v out with omitempty.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// name begins a field of an object.
func (s *Stream) name(name string) {
	s.next()
	s.quote(name)
	s.w.WriteString(": ")
}

// short are the escapes of two characters.
var short = map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

// quote writes a string of UTF-8. As encoding/json does, it escapes what HTML
// and JavaScript take for something else.
func (s *Stream) quote(text string) {
	s.w.WriteByte('"')
	for _, r := range text {
		switch c, ok := short[r]; {
		case ok:
			s.w.WriteByte('\\')
			s.w.WriteByte(c)
		case r < ' ' || strings.ContainsRune("<>&\u2028\u2029", r):
			fmt.Fprintf(s.w, `\u%04x`, r)
		default:
			s.w.WriteRune(r)
		}
	}
	s.w.WriteByte('"')
}

// text returns s as it stands in JSON: as it is if it is UTF-8, or else
// after U+FFFD with \xNN for each byte that is none, and \\ for a backslash. A
// text that begins with U+FFFD itself is written so, too: no two are equal.
func text(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, string(utf8.RuneError)) {
		return s
	}
	var b strings.Builder
	b.WriteRune(utf8.RuneError)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}
