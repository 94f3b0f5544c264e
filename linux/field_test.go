package linux

import (
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

// shapes adds a struct with members of all kinds to BTF:
//
//	struct inner { int a; const u64_t b; };
//	struct outer {
//		u64_t id;                                // 0
//		union { struct { int x; int y; }; u64_t xy; };   // 8
//		struct inner in;                         // 16
//		struct inner *ptr;                       // 32
//		struct inner many[3];                    // 40
//		char name[8];                            // 88
//		unsigned flag:1, :3, wide:9; int neg:5;  // 96
//		void *nothing;                           // 104
//		struct missing *gone;                    // 112
//		u64_t rest[];                            // 120
//	};
func shapes(b *fakelinux.BTF) {
	i32, u32, char := b.Int("int", 4, true), b.Int("unsigned int", 4, false), b.Int("char", 1, true)
	u64 := b.Add("u64_t", kindTypedef, 0, false, b.Int("unsigned long", 8, false))
	inner := b.Struct("inner", 16, fakelinux.M("a", i32, 0), fakelinux.M("b", b.Add("", kindConst, 0, false, u64), 8))
	pair := b.Struct("", 8, fakelinux.M("x", i32, 0), fakelinux.M("y", i32, 4))
	both := b.Add("", kindUnion, 2, false, 8, 0, pair, 0, b.Str("xy"), u64, 0)
	gone := b.Add("missing", kindFwd, 0, false, 0)
	members := []uint32{
		b.Str("id"), u64, 0, 0, both, 8 * 8, b.Str("in"), inner, 8 * 16, b.Str("ptr"), b.Ptr(inner), 8 * 32,
		b.Str("many"), b.Array(inner, 3), 8 * 40, b.Str("name"), b.Array(char, 8), 8 * 88,
		b.Str("flag"), u32, 1<<24 | 8*96, b.Str("wide"), u32, 9<<24 | (8*96 + 4), b.Str("neg"), i32, 5<<24 | (8*96 + 13),
		b.Str("nothing"), b.Ptr(0), 8 * 104, b.Str("gone"), b.Ptr(gone), 8 * 112,
		b.Str("rest"), b.Array(u64, 0), 8 * 120,
	}
	b.Add("outer", kindStruct, len(members)/3, true, 120, members...)
	loop := b.N + 1
	b.Add("loop", kindTypedef, 0, false, loop)
	self := b.N + 1
	b.Struct("self", 8, fakelinux.M("", self, 0), fakelinux.M("turns", loop, 0))
	b.Struct("rb_node", 24, fakelinux.M("rb_right", b.Ptr(0), 8), fakelinux.M("rb_left", b.Ptr(0), 16))
	slots := b.Array(b.Ptr(0), 64)
	b.Struct("xa_node", 40+512, fakelinux.M("shift", b.Int("unsigned char", 1, false), 0), fakelinux.M("slots", slots, 40))
	xarray := b.Struct("xarray", 16, fakelinux.M("xa_head", b.Ptr(0), 8))
	b.Struct("idr", 24, fakelinux.M("idr_rt", xarray, 0), fakelinux.M("idr_base", u32, 16))
	b.Struct("item", 64, fakelinux.M("node", b.Struct("list_head", 16), 16), fakelinux.M("rb", b.Struct("rb_root", 8), 32))
}

// outer adds an object of that type and returns its address.
func outer(f *fakelinux.Kernel) uint64 {
	in := f.Alloc(16, 8, 77)
	at := f.Alloc(144, 0, 42, 24, 5, 32, in, 80, 9, 136, 1234)
	f.Put(at+8, append(fakelinux.LE32(0xffffffff), fakelinux.LE32(3)...))
	f.Put(at+88, []byte("ab\x00junk"))
	f.Put(at+96, fakelinux.LE32(1|0x155<<4|0x1e<<13))
	return at
}

func TestField(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	at := outer(f)
	k := openFake(t, f, f.Finish())
	tests := []struct {
		path   string
		value  uint64
		offset uint64
	}{
		{"id", 42, 0},
		{"x", 1<<64 - 1, 8},
		{"y", 3, 12},
		{"xy", 0x3_ffffffff, 8},
		{"in.b", 5, 24},
		{"ptr->b", 77, 8},
		{"many[2].b", 9, 80},
		{"flag", 1, 96},
		{"wide", 0x155, 96},
		{"neg", 1<<64 - 2, 97},
		{"rest[2]", 1234, 136},
	}
	s, err := k.Struct("outer")
	if err != nil || s.Size() != 120 {
		t.Fatal(s, err)
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			f, err := s.Field("renamed", test.path)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := k.Value(at, f); v != test.value || err != nil || f.Offset() != test.offset {
				t.Errorf("%#x at %d (%v), want %#x at %d", v, f.Offset(), err, test.value, test.offset)
			}
		})
	}
	name, _ := s.Field("name")
	if text, err := k.fieldText(at, name); text != "ab" || err != nil {
		t.Errorf("name is %q (%v)", text, err)
	}
	many, _ := s.Field("many")
	if many.Count != 3 || many.Stride != 16 {
		t.Errorf("many has %d elements of %d bytes", many.Count, many.Stride)
	}
}

func TestFieldErrors(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	at := f.Alloc(120)
	k := openFake(t, f, f.Finish())
	for _, test := range []struct{ typ, path, err string }{
		{"outer", "nope", "struct outer has no member nope"},
		{"outer", "in.nope", "struct inner has no member nope (of in.nope)"},
		{"outer", "ptr->b.c", "struct unsigned long has no member c (of ptr->b.c)"},
		{"outer", "gone->x", "struct missing has no member x (of gone->x)"},
		{"outer", "in->a", "in->a: in is no pointer"},
		{"outer", "many[3].a", "many[3].a: many has 3 elements"},
		{"outer", "id[0]", "id[0]: id is no array"},
		{"outer", "many[x", "many[x: many is no array"},
		{"nothing", "x", "no struct nothing in BTF"},
		{"missing", "x", "no struct missing in BTF"}, // declared only
		{"u64_t", "x", "no struct u64_t in BTF"},
	} {
		t.Run(test.typ+" "+test.path, func(t *testing.T) {
			s, err := k.Struct(test.typ)
			if err == nil {
				_, err = s.Field(test.path)
			}
			if err == nil || err.Error() != test.err {
				t.Errorf("error is %v, want %s", err, test.err)
			}
		})
	}
	s, _ := k.Struct("self")
	for _, path := range []string{"turns", "nope"} {
		if _, err := s.Field(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", path, err)
		}
	}
	s, _ = k.Struct("outer")
	null, err := s.Field("ptr->b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Value(at, null); !errors.Is(err, errNull) {
		t.Errorf("error is %v", err)
	}
}

func TestBind(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	k := openFake(t, f, f.Finish())
	s, _ := k.Struct("outer")
	var good struct {
		ID    Field `btf:"ident|id"`
		Gone  Field `btf:"nope,optional"`
		Other int
	}
	if err := s.Bind(&good); err != nil || !good.ID.Valid() || good.Gone.Valid() {
		t.Errorf("%v, %+v", err, good)
	}
	var bad struct {
		Gone Field `btf:"nope|neither"`
	}
	var missing *MemberError
	if err := s.Bind(&bad); !errors.As(err, &missing) || missing.Type != "outer" || missing.Member != "nope" {
		t.Errorf("error is %v", err)
	}
}

// A module's BTF goes on where the kernel's ends.
func TestSplitBTF(t *testing.T) {
	base := fakelinux.NewBTF(nil)
	shapes(base)
	split := fakelinux.NewBTF(base)
	split.Struct("mine", 40, fakelinux.M("id", 1, 0), fakelinux.M("inner", 5, 8), fakelinux.M("own", split.Ptr(base.N+1), 32))
	split.Struct("missing", 8, fakelinux.M("found", 1, 4)) // the kernel only declares it
	kernel, err := parseBTF(base.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	module, err := parseBTF(split.Bytes(), kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "outer"} {
		if _, err := module.structure(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := kernel.structure("mine"); err == nil {
		t.Error("the kernel has a module's type")
	}
	s, _ := module.structure("outer")
	if f, err := s.Field("gone->found"); err != nil || f.Offset() != 4 {
		t.Errorf("a struct that the module defines: %v", err)
	}
	s, _ = module.structure("mine")
	if f, err := s.Field("own->own"); err == nil {
		t.Errorf("a pointer to a pointer was followed: %+v", f)
	}
}

func TestBTFHostile(t *testing.T) {
	chain := fakelinux.NewBTF(nil)
	for range 400_000 {
		chain.Add("", kindConst, 0, false, chain.N+2)
	}
	chain.Struct("end", 8, fakelinux.M("member", 1, 0))
	names := fakelinux.NewBTF(nil)
	for range 100_000 { // each offset is a name of its own
		names.Strings = append(names.Strings, "wanted\x00"...)
		names.Add("", kindFwd, 0, false, 0)
	}
	huge := fakelinux.NewBTF(nil)
	array := huge.Int("int", 4, true)
	for range 30 {
		array = huge.Array(array, 1<<31)
	}
	huge.Struct("end", 8, fakelinux.M("member", array, 0))
	wide := fakelinux.NewBTF(nil)
	anon := wide.Struct("", 8, fakelinux.M("deep", 1, 0))
	for range 40 { // 2^40 members
		anon = wide.Struct("", 8, fakelinux.M("", anon, 0), fakelinux.M("", anon, 0))
	}
	wide.Struct("end", 8, fakelinux.M("", anon, 0))
	for _, test := range []struct {
		name string
		btf  *fakelinux.BTF
	}{{"a chain of types", chain}, {"a name that is there often", names}, {"arrays of arrays", huge}, {"nested structs", wide}} {
		t.Run(test.name, func(t *testing.T) {
			types, err := parseBTF(test.btf.Bytes(), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := types.structure("end")
			if err == nil {
				_, err = s.Field("member")
			}
			if err == nil {
				t.Error("no error")
			}
			types.structure("wanted")
		})
	}
	sound := fakelinux.NewBTF(nil)
	shapes(sound)
	b := sound.Bytes()
	for n := range len(b) {
		if _, err := parseBTF(b[:n], nil); err == nil {
			t.Fatalf("%d of %d bytes are BTF", n, len(b))
		}
	}
}

func FuzzBTF(f *testing.F) {
	base := fakelinux.NewBTF(nil)
	shapes(base)
	split := fakelinux.NewBTF(base)
	split.Struct("mine", 40, fakelinux.M("id", 1, 0), fakelinux.M("inner", 5, 8))
	f.Add(base.Bytes(), split.Bytes(), "outer", "many[2].b")
	f.Add(base.Bytes(), split.Bytes(), "mine", "inner.a")
	f.Fuzz(func(t *testing.T, b, b2 []byte, typ, path string) {
		// The header does not count: bytes that are none find nothing.
		for _, b := range [][]byte{b, b2} {
			if len(b) >= 4 {
				binary.LittleEndian.PutUint32(b, btfMagic|1<<16)
			}
		}
		types, err := parseBTF(b, nil)
		if err != nil {
			return
		}
		for _, name := range []string{"self", "xa_node", typ} {
			if s, err := types.structure(name); err == nil {
				s.Field(path, "slots", "turns")
			}
		}
		if module, err := parseBTF(b2, types); err == nil {
			if s, err := module.structure(typ); err == nil {
				s.Field(path)
			}
		}
	})
}
