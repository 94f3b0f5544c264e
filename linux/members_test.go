package linux

import (
	"slices"
	"testing"
)

func TestMembers(t *testing.T) {
	b := newBTF(nil)
	u32 := b.int("u32", 4, false)
	inner := b.structure("inner", 8, m{"x", u32, 0}, m{"y", u32, 4})
	anonymous := b.structure("", 8, m{"save", inner, 0})
	b.structure("outer", 20, m{"n", u32, 0}, m{"in", inner, 4}, m{"", anonymous, 12})
	types, err := ParseBTF(b.bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := types.Struct("outer")
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Members()
	if want := []string{"n", "in.x", "in.y", "save.x", "save.y"}; !slices.Equal(all, want) || err != nil {
		t.Errorf("%v (%v), want %v", all, err, want)
	}
	if f, err := s.Field("save.y"); f.Offset() != 16 || f.Size != 4 || err != nil {
		t.Errorf("save.y is at %d, %d bytes (%v)", f.Offset(), f.Size, err)
	}
}
