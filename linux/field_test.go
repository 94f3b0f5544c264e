package linux

import (
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"
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
func shapes(b *btfMaker) {
	i32, u32, char := b.int("int", 4, true), b.int("unsigned int", 4, false), b.int("char", 1, true)
	u64 := b.add("u64_t", kindTypedef, 0, false, b.int("unsigned long", 8, false))
	inner := b.structure("inner", 16, m{"a", i32, 0}, m{"b", b.add("", kindConst, 0, false, u64), 8})
	pair := b.structure("", 8, m{"x", i32, 0}, m{"y", i32, 4})
	both := b.add("", kindUnion, 2, false, 8, 0, pair, 0, b.str("xy"), u64, 0)
	gone := b.add("missing", kindFwd, 0, false, 0)
	members := []uint32{
		b.str("id"), u64, 0, 0, both, 8 * 8, b.str("in"), inner, 8 * 16, b.str("ptr"), b.ptr(inner), 8 * 32,
		b.str("many"), b.array(inner, 3), 8 * 40, b.str("name"), b.array(char, 8), 8 * 88,
		b.str("flag"), u32, 1<<24 | 8*96, b.str("wide"), u32, 9<<24 | (8*96 + 4), b.str("neg"), i32, 5<<24 | (8*96 + 13),
		b.str("nothing"), b.ptr(0), 8 * 104, b.str("gone"), b.ptr(gone), 8 * 112,
		b.str("rest"), b.array(u64, 0), 8 * 120,
	}
	b.add("outer", kindStruct, len(members)/3, true, 120, members...)
	loop := b.n + 1
	b.add("loop", kindTypedef, 0, false, loop)
	self := b.n + 1
	b.structure("self", 8, m{"", self, 0}, m{"turns", loop, 0})
	b.structure("rb_node", 24, m{"rb_right", b.ptr(0), 8}, m{"rb_left", b.ptr(0), 16})
	slots := b.array(b.ptr(0), 64)
	b.structure("xa_node", 40+512, m{"shift", b.int("unsigned char", 1, false), 0}, m{"slots", slots, 40})
	xarray := b.structure("xarray", 16, m{"xa_head", b.ptr(0), 8})
	b.structure("idr", 24, m{"idr_rt", xarray, 0}, m{"idr_base", u32, 16})
	b.structure("item", 64, m{"node", b.structure("list_head", 16), 16}, m{"rb", b.structure("rb_root", 8), 32})
}

// outer adds an object of that type and returns its address.
func outer(f *fake) uint64 {
	in := f.alloc(16, 8, 77)
	at := f.alloc(144, 0, 42, 24, 5, 32, in, 80, 9, 136, 1234)
	f.put(at+8, append(le32(0xffffffff), le32(3)...))
	f.put(at+88, []byte("ab\x00junk"))
	f.put(at+96, le32(1|0x155<<4|0x1e<<13))
	return at
}

func TestField(t *testing.T) {
	f := newFake()
	shapes(f.btf)
	at := outer(f)
	k := f.open(t)
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
	if text, err := k.Text(at, name); text != "ab" || err != nil {
		t.Errorf("name is %q (%v)", text, err)
	}
	many, _ := s.Field("many")
	if many.Count != 3 || many.Stride != 16 {
		t.Errorf("many has %d elements of %d bytes", many.Count, many.Stride)
	}
	if e, ok := many.Elem(); !ok || e.Name != "inner" {
		t.Errorf("many's elements are %v", e)
	}
}

func TestFieldErrors(t *testing.T) {
	f := newFake()
	shapes(f.btf)
	at := f.alloc(120)
	k := f.open(t)
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
	f := newFake()
	shapes(f.btf)
	k := f.open(t)
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
	base := newBTF(nil)
	shapes(base)
	split := newBTF(base)
	split.structure("mine", 40, m{"id", 1, 0}, m{"inner", 5, 8}, m{"own", split.ptr(base.n + 1), 32})
	split.structure("missing", 8, m{"found", 1, 4}) // the kernel only declares it
	kernel, err := parseBTF(base.bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	module, err := parseBTF(split.bytes(), kernel)
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
	if f, err := s.Field("gone"); err == nil {
		if e, ok := f.Elem(); !ok || e.Name != "missing" || e.Size() != 8 {
			t.Errorf("a struct that the module defines: %v", e)
		}
	}
	s, _ = module.structure("mine")
	if f, err := s.Field("own->own"); err == nil {
		t.Errorf("a pointer to a pointer was followed: %+v", f)
	}
}

func TestBTFHostile(t *testing.T) {
	chain := newBTF(nil)
	for range 400_000 {
		chain.add("", kindConst, 0, false, chain.n+2)
	}
	chain.structure("end", 8, m{"member", 1, 0})
	names := newBTF(nil)
	for range 100_000 { // each offset is a name of its own
		names.strings = append(names.strings, "wanted\x00"...)
		names.add("", kindFwd, 0, false, 0)
	}
	huge := newBTF(nil)
	array := huge.int("int", 4, true)
	for range 30 {
		array = huge.array(array, 1<<31)
	}
	huge.structure("end", 8, m{"member", array, 0})
	wide := newBTF(nil)
	anon := wide.structure("", 8, m{"deep", 1, 0})
	for range 40 { // 2^40 members
		anon = wide.structure("", 8, m{"", anon, 0}, m{"", anon, 0})
	}
	wide.structure("end", 8, m{"", anon, 0})
	for _, test := range []struct {
		name string
		btf  *btfMaker
	}{{"a chain of types", chain}, {"a name that is there often", names}, {"arrays of arrays", huge}, {"nested structs", wide}} {
		t.Run(test.name, func(t *testing.T) {
			types, err := parseBTF(test.btf.bytes(), nil)
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
	sound := newBTF(nil)
	shapes(sound)
	b := sound.bytes()
	for n := range len(b) {
		if _, err := parseBTF(b[:n], nil); err == nil {
			t.Fatalf("%d of %d bytes are BTF", n, len(b))
		}
	}
}

func FuzzBTF(f *testing.F) {
	base := newBTF(nil)
	shapes(base)
	split := newBTF(base)
	split.structure("mine", 40, m{"id", 1, 0}, m{"inner", 5, 8})
	f.Add(base.bytes(), split.bytes(), "outer", "many[2].b")
	f.Add(base.bytes(), split.bytes(), "mine", "inner.a")
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
				if f, err := s.Field(path); err == nil {
					f.Elem()
				}
			}
		}
	})
}
