package cli

import (
	"bytes"
	"testing"
)

// A document in pieces is what it is as a whole.
func TestJSONStream(t *testing.T) {
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
	if err := (&env{stdout: &want}).json(outer{"f", []inner{}, []inner{a, b}, b}); err != nil {
		t.Fatal(err)
	}
	s := newJSONStream(&got)
	s.object(func() {
		s.field("file", "f")
		s.list("empty", func() {})
		s.list("list", func() {
			s.item(a)
			s.object(func() {
				s.field("b", b.B)
				s.field("c", b.C)
			})
		})
		s.field("last", b)
	})
	if err := s.end(); err != nil || got.String() != want.String() {
		t.Errorf("%v\n%s\nexpected\n%s", err, &got, &want)
	}
}

// A value that cannot be written is an error.
func TestJSONStreamError(t *testing.T) {
	s := newJSONStream(new(bytes.Buffer))
	s.item(func() {})
	if s.end() == nil {
		t.Error("no error")
	}
}
