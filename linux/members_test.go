package linux

import (
	"slices"
	"testing"

	"vmcsnote/internal/fakelinux"
)

func TestMembers(t *testing.T) {
	b := fakelinux.NewBTF(nil)
	u32 := b.Int("u32", 4, false)
	inner := b.Struct("inner", 8, fakelinux.M("x", u32, 0), fakelinux.M("y", u32, 4))
	anonymous := b.Struct("", 8, fakelinux.M("save", inner, 0))
	b.Struct("outer", 20, fakelinux.M("n", u32, 0), fakelinux.M("in", inner, 4), fakelinux.M("", anonymous, 12))
	types, err := ParseBTF(b.Bytes(), nil)
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
