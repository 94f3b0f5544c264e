package jsonstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// encode returns v as JSON. Names of files and names in dumps are bytes, and
// JSON holds Unicode alone: encoding/json puts U+FFFD in place of all bytes that
// are no UTF-8, which makes different names equal. See text.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || !bytes.Contains(b, []byte(`\ufffd`)) && !bytes.Contains(b, []byte("\ufffd")) {
		return b, err
	}
	return json.Marshal(texts(reflect.ValueOf(v)).Interface())
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

// texts returns a copy of v with text of every string in it. What stands
// in an embedded pointer stays: those hold names of our own.
func texts(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.String, reflect.Struct:
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v
		}
	default:
		return v
	}
	c := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		c.SetString(text(v.String()))
	case reflect.Struct:
		c.Set(v)
		for i := range v.NumField() {
			if c.Field(i).CanSet() {
				c.Field(i).Set(texts(v.Field(i)))
			}
		}
	case reflect.Slice:
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(texts(v.Index(i)))
		}
	case reflect.Map:
		c.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for key, value := range v.Seq2() {
			c.SetMapIndex(texts(key), texts(value))
		}
	case reflect.Pointer:
		c.Set(reflect.New(v.Type().Elem()))
		c.Elem().Set(texts(v.Elem()))
	case reflect.Interface:
		c.Set(texts(v.Elem()))
	}
	return c
}
