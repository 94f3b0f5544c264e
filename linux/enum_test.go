package linux

import (
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

func TestEnum(t *testing.T) {
	base := fakelinux.NewBTF(nil)
	base.Add("small", kindEnum, 2, false, 4, base.Str("A"), 16, base.Str("B"), 0xffffffff)
	base.Struct("small", 8) // C has another namespace for it
	module := fakelinux.NewBTF(base)
	module.Add("big", kindEnum64, 1, false, 8, module.Str("C"), 5, 1)
	b, err := ParseBTF(base.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseBTF(module.Bytes(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		enum, name string
		want       uint64
		err        string
	}{
		{"small", "A", 16, ""},
		{"small", "B", 1<<64 - 1, ""},
		{"big", "C", 1<<32 | 5, ""},
		{"big", "A", 0, "enum big has no member A"},
		{"none", "A", 0, "no struct none in BTF"},
	} {
		got, err := m.types.enumerator(test.enum, test.name)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%s of %s: %#x (%v), want %#x", test.name, test.enum, got, err, test.want)
		}
	}
	var noMember *MemberError
	if _, err := m.types.enumerator("big", "A"); !errors.As(err, &noMember) {
		t.Errorf("%v", err)
	}
	if s, err := m.Struct("small"); err != nil || s.Size() != 8 {
		t.Errorf("struct small: %v", err)
	}
}
