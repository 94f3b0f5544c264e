package elfnote

import (
	"bytes"
	"strings"
	"testing"
)

// apply carries a splice out on a segment's bytes.
func apply(b []byte, sp Splice) []byte {
	return append(append(bytes.Clone(b[:sp.Off]), sp.Ins...), b[sp.Off+sp.Del:]...)
}

func names(t *testing.T, b []byte) string {
	t.Helper()
	s, err := parse(b, le)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range s.Notes {
		names = append(names, e.Name)
	}
	if s.Fill != s.Size {
		names = append(names, "fill")
	}
	return strings.Join(names, " ")
}

func TestSplice(t *testing.T) {
	core, info, erase := Note{"CORE", 1, []byte("regs")}, Note{VMCoreInfo, 0, []byte("A=1\n")}, Note{"ERASEINFO", 0, []byte("erase x\n")}
	vmcs, other := Note{VMCSInfo, 0, []byte("REVISION_ID=d\n")}, Note{VMCSInfo, 0, []byte("REVISION_ID=12\nFIELD(X)=8\n")}
	for _, tc := range []struct {
		name   string
		before []byte
		splice func(*Segment) Splice
		want   string
	}{
		{"insert: VMCOREINFO is last", segment(le, core, info), func(s *Segment) Splice { return s.Insert(vmcs) }, "CORE VMCOREINFO VMCSINFO"},
		{"insert: directly after VMCOREINFO", segment(le, core, info, erase), func(s *Segment) Splice { return s.Insert(vmcs) }, "CORE VMCOREINFO VMCSINFO ERASEINFO"},
		{"insert: no VMCOREINFO", segment(le, core), func(s *Segment) Splice { return s.Insert(vmcs) }, "CORE VMCSINFO"},
		{"insert: no note", nil, func(s *Segment) Splice { return s.Insert(vmcs) }, "VMCSINFO"},
		{"insert: zero fill goes", append(segment(le, core, info), make([]byte, 40)...), func(s *Segment) Splice { return s.Insert(vmcs) }, "CORE VMCOREINFO VMCSINFO"},
		{"append: after all", segment(le, core, info, erase), func(s *Segment) Splice { return s.Append(vmcs) }, "CORE VMCOREINFO ERASEINFO VMCSINFO"},
		{"append: the last lacks its padding", bytes.TrimRight(segment(le, core, Note{VMCoreInfo, 0, []byte("A=1")}), "\x00"), func(s *Segment) Splice { return s.Append(vmcs) }, "CORE VMCOREINFO VMCSINFO"},
		{"replace: larger", segment(le, core, info, vmcs, erase), func(s *Segment) Splice { return s.Replace(2, other) }, "CORE VMCOREINFO VMCSINFO ERASEINFO"},
		{"remove: within", segment(le, core, vmcs, info), func(s *Segment) Splice { return s.Remove(1) }, "CORE VMCOREINFO"},
		{"remove: last", segment(le, core, info, vmcs), func(s *Segment) Splice { return s.Remove(2) }, "CORE VMCOREINFO"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := parse(tc.before, le)
			if err != nil {
				t.Fatal(err)
			}
			sp := tc.splice(s)
			after := apply(tc.before, sp)
			if got := names(t, after); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if len(after) != len(tc.before)+int(sp.Grow()) {
				t.Errorf("grows by %d, but Grow says %d", len(after)-len(tc.before), sp.Grow())
			}
		})
	}
}

// TestSpliceBack: what Insert adds, Remove takes out again.
func TestSpliceBack(t *testing.T) {
	n := Note{VMCSInfo, 0, []byte("REVISION_ID=d\n")}
	before := segment(le, Note{"CORE", 1, []byte("regs")}, Note{VMCoreInfo, 0, []byte("A=1\n")}, Note{"ERASEINFO", 0, []byte("x")})
	s, err := parse(before, le)
	if err != nil {
		t.Fatal(err)
	}
	after := apply(before, s.Insert(n))
	if s, err = parse(after, le); err != nil {
		t.Fatal(err)
	}
	i, ok := s.Find(VMCSInfo, 0)
	if !ok {
		t.Fatal("not found")
	}
	if got, err := s.Note(i, 1<<20); err != nil || !got.Equal(n) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, ok := s.Find(VMCSInfo, 1); ok {
		t.Error("found one of type 1")
	}
	if back := apply(after, s.Remove(i)); !bytes.Equal(back, before) {
		t.Errorf("got  %x\nwant %x", back, before)
	}
}

func TestNoteLimit(t *testing.T) {
	s, err := parse(segment(le, Note{"LINUX", 0x700, make([]byte, 1000)}), le)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Note(0, 999); err == nil {
		t.Error("a descriptor above the limit was read")
	}
	if n, err := s.Note(0, 1000); err != nil || len(n.Desc) != 1000 {
		t.Errorf("%d bytes, %v", len(n.Desc), err)
	}
}

// TestAlign8: in a segment whose notes are padded to 8 a new one is padded so
// too, and its removal is exact. p_align 8 alone does not make it such a
// segment.
func TestAlign8(t *testing.T) {
	core, info, erase := Note{"CORE", 1, make([]byte, 12)}, Note{VMCoreInfo, 0, []byte("A=1\n")}, Note{"ERASEINFO", 0, []byte("erase x\n")}
	vmcs := Note{VMCSInfo, 0, []byte("REVISION_ID=d\n")}
	var padded []byte
	for _, n := range []Note{core, info, erase} {
		padded = append(padded, n.encode(le, 8)...)
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
		align uint64
		want  int64 // 0: an error
	}{
		{"padded to 8", padded, 8, 8},
		{"padded to 8, but p_align is 4", padded, 4, 0},
		{"padded to 4, and p_align is 8", segment(le, core, info, erase), 8, 4},
		{"padded to 4", segment(le, core, info, erase), 0, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := ParseAligned(bytes.NewReader(tc.bytes), int64(len(tc.bytes)), le, tc.align)
			if tc.want == 0 {
				if err == nil {
					t.Fatal("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Align != tc.want || len(s.Notes) != 3 {
				t.Fatalf("%d notes padded to %d, want 3 to %d", len(s.Notes), s.Align, tc.want)
			}
			after := apply(tc.bytes, s.Insert(vmcs))
			s, err = ParseAligned(bytes.NewReader(after), int64(len(after)), le, tc.align)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Note(2, 100); err != nil || !got.Equal(vmcs) || s.Align != tc.want {
				t.Errorf("got %v padded to %d, %v", got, s.Align, err)
			}
			if back := apply(after, s.Remove(2)); !bytes.Equal(back, tc.bytes) {
				t.Errorf("got  %x\nwant %x", back, tc.bytes)
			}
		})
	}
}
