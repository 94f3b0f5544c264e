package jsonstream

import (
	"bytes"
	"testing"
)

// A document in pieces is what it is as a whole.
func TestStream(t *testing.T) {
	type inner struct {
		B []int          `json:"b"`
		C map[string]int `json:"c"`
	}
	type outer struct {
		File  string  `json:"file"`
		Empty []inner `json:"empty"`
		List  []inner `json:"list"`
		Last  inner   `json:"last"`
	}
	a, b := inner{[]int{1, 2}, map[string]int{"x<\x1b": 1}}, inner{[]int{}, map[string]int{}}
	var want, got bytes.Buffer
	if err := Write(&want, outer{"f", []inner{}, []inner{a, b}, b}); err != nil {
		t.Fatal(err)
	}
	s := New(&got)
	s.Object(func() {
		s.Field("file", "f")
		s.List("empty", func() {})
		s.List("list", func() {
			s.Item(a)
			s.Object(func() {
				s.Field("b", b.B)
				s.Field("c", b.C)
			})
		})
		s.Field("last", b)
	})
	if err := s.End(); err != nil || got.String() != want.String() {
		t.Errorf("%v\n%s\nexpected\n%s", err, &got, &want)
	}
}

// A value that cannot be written is an error.
func TestStreamError(t *testing.T) {
	s := New(new(bytes.Buffer))
	s.Item(func() {})
	if s.End() == nil {
		t.Error("no error")
	}
}
