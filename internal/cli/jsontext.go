package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// encodeJSON returns v as JSON. Names of files and names in dumps are bytes, and
// JSON holds Unicode alone: encoding/json puts U+FFFD in place of all bytes that
// are no UTF-8, which makes different names equal. See jsonText.
func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || !bytes.Contains(b, []byte(`\ufffd`)) && !bytes.Contains(b, []byte("\ufffd")) {
		return b, err
	}
	return json.Marshal(jsonTexts(reflect.ValueOf(v)).Interface())
}

// jsonText returns s as it stands in JSON: as it is if it is UTF-8, or else
// after U+FFFD with \xNN for each byte that is none, and \\ for a backslash. A
// text that begins with U+FFFD itself is written so, too: no two are equal.
func jsonText(s string) string {
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

// jsonTexts returns a copy of v with jsonText of every string in it. What stands
// in an embedded pointer stays: those hold names of our own.
func jsonTexts(v reflect.Value) reflect.Value {
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
		c.SetString(jsonText(v.String()))
	case reflect.Struct:
		c.Set(v)
		for i := range v.NumField() {
			if c.Field(i).CanSet() {
				c.Field(i).Set(jsonTexts(v.Field(i)))
			}
		}
	case reflect.Slice:
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(jsonTexts(v.Index(i)))
		}
	case reflect.Map:
		c.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for key, value := range v.Seq2() {
			c.SetMapIndex(jsonTexts(key), jsonTexts(value))
		}
	case reflect.Pointer:
		c.Set(reflect.New(v.Type().Elem()))
		c.Elem().Set(jsonTexts(v.Elem()))
	case reflect.Interface:
		c.Set(jsonTexts(v.Elem()))
	}
	return c
}

// A failure is the document that --json prints where a command fails before it
// has another one to print. Its JSON names are fixed.
type failure struct {
	File  string `json:"file,omitempty"` // if one was given
	Error string `json:"error"`
}

// failJSON prints the document for an error, unless there is one already.
func (e *env) failJSON(err error) {
	if e.file != "" {
		err = named(e.file, err)
	}
	e.json(failure{e.file, err.Error()})
}

// json prints one document. A command prints no second one: after a signal that
// is of no use, but it may be tried.
func (e *env) json(v any) error {
	if !e.answer() {
		return nil
	}
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	json.Indent(&text, b, "", "  ") // b is valid
	text.WriteByte('\n')
	_, err = e.stdout.Write(text.Bytes())
	return err
}

// answer reports whether a document may be printed: none has been.
func (e *env) answer() bool { return e.answered == nil || e.answered.CompareAndSwap(false, true) }
