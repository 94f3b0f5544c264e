package elfnote

import (
	"bytes"
	"encoding/binary"
	hexbytes "encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		name  string
		note  Note
		order binary.ByteOrder
		want  string
	}{
		{"name padded to 12, desc to 4", Note{"VMCSINFO", 0, []byte("abcde")}, le,
			"09000000 05000000 00000000 564d4353494e464f00000000 6162636465000000"},
		{"big-endian", Note{"VMCSINFO", 0, []byte("abcde")}, be,
			"00000009 00000005 00000000 564d4353494e464f00000000 6162636465000000"},
		{"name with its NUL a multiple of 4", Note{"ABC", 7, []byte("wxyz")}, le,
			"04000000 04000000 07000000 41424300 7778797a"},
		{"no name", Note{"", 1, []byte("a")}, le, "00000000 01000000 01000000 61000000"},
		{"no desc", Note{"CORE", 1, nil}, le, "05000000 00000000 01000000 434f524500000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want, err := hexbytes.DecodeString(strings.ReplaceAll(tc.want, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			got := tc.note.Encode(tc.order)
			if !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
			if tc.note.Size() != int64(len(want)) {
				t.Errorf("Size is %d, want %d", tc.note.Size(), len(want))
			}
		})
	}
}

// segment encodes notes one after another.
func segment(order binary.ByteOrder, notes ...Note) []byte {
	var b []byte
	for _, n := range notes {
		b = append(b, n.Encode(order)...)
	}
	return b
}

func parse(b []byte, order binary.ByteOrder) (*Segment, error) {
	return Parse(bytes.NewReader(b), int64(len(b)), order)
}

func TestParse(t *testing.T) {
	core := Note{"CORE", 1, bytes.Repeat([]byte{1}, 336)}
	info := Note{VMCoreInfo, 0, []byte("OSRELEASE=6.1\n")}
	both := segment(le, core, info)
	for _, tc := range []struct {
		name  string
		bytes []byte
		order binary.ByteOrder
		notes []string // name@offset
		fill  int64
		err   string
	}{
		{name: "two notes", bytes: both, order: le, notes: []string{"CORE@0", "VMCOREINFO@356"}, fill: int64(len(both))},
		{name: "big-endian", bytes: segment(be, core, info), order: be, notes: []string{"CORE@0", "VMCOREINFO@356"}, fill: int64(len(both))},
		{name: "none", order: le},
		{name: "zero fill after the last", bytes: append(bytes.Clone(both), make([]byte, 100)...), order: le,
			notes: []string{"CORE@0", "VMCOREINFO@356"}, fill: int64(len(both))},
		{name: "fewer zeros than a header", bytes: append(bytes.Clone(both), 0, 0, 0, 0), order: le,
			notes: []string{"CORE@0", "VMCOREINFO@356"}, fill: int64(len(both))},
		{name: "last note without its padding", bytes: both[:len(both)-2], order: le,
			notes: []string{"CORE@0", "VMCOREINFO@356"}, fill: int64(len(both) - 2)},
		{name: "names with more than one NUL, as LINUX of vmcoredd", order: le,
			bytes: []byte("\x08\x00\x00\x00\x04\x00\x00\x00\x00\x07\x00\x00LINUX\x00\x00\x00abcd"), notes: []string{"LINUX@0"}, fill: 24},
		{name: "zeros between notes", bytes: append(append(core.Encode(le), make([]byte, 12)...), info.Encode(le)...), order: le,
			err: "notes at offset 0x164: found an all-zero note header with more after it"},
		{name: "header cut", bytes: append(bytes.Clone(both), 1, 0, 0, 0), order: le,
			err: "note header at offset 0x18c: found 0x4 bytes, expected 12 bytes"},
		{name: "n_namesz beyond the segment", bytes: []byte("\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00name"), order: le,
			err: "n_namesz at offset 0x0: found 0x10, expected at most 0x4"},
		{name: "n_namesz of 4 GiB", bytes: append([]byte{255, 255, 255, 255}, make([]byte, 20)...), order: le,
			err: "n_namesz at offset 0x0: found 0xffffffff"},
		{name: "a name of 2 KiB", bytes: append([]byte{0, 8, 0, 0}, make([]byte, 1<<12)...), order: le,
			err: "n_namesz at offset 0x0: found 0x800, expected at most 0x400"},
		{name: "n_descsz beyond the segment", bytes: []byte("\x04\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00ABC\x00four"), order: le,
			err: "n_descsz at offset 0x4: found 0x5, expected at most 0x4"},
		{name: "n_descsz of 4 GiB", bytes: []byte("\x04\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00ABC\x00four"), order: le,
			err: "n_descsz at offset 0x4: found 0xffffffff"},
		{name: "too many", bytes: bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, maxNotes+1), order: le,
			err: "expected at most 65536 notes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := parse(tc.bytes, tc.order)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error is %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range s.Notes {
				got = append(got, e.Name+"@"+strconv.FormatInt(e.Off, 10))
			}
			if strings.Join(got, " ") != strings.Join(tc.notes, " ") || s.Fill != tc.fill {
				t.Errorf("got %v, fill at %d; want %v, fill at %d", got, s.Fill, tc.notes, tc.fill)
			}
		})
	}
}

// TestGaps: the notes after zeros are read, if there are any.
func TestGaps(t *testing.T) {
	core, info := Note{"CORE", 1, make([]byte, 40)}.Encode(le), Note{VMCoreInfo, 0, []byte("A=1\n")}.Encode(le)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tc := range []struct {
		name  string
		bytes []byte
		gaps  []Gap // nil: an error
		notes int
	}{
		{"one CPU's note is missing", join(core, make([]byte, len(core)), info), []Gap{{int64(len(core)), int64(len(core))}}, 2},
		{"the first is", join(make([]byte, 100), info), []Gap{{0, 100}}, 1},
		{"two gaps, and zero fill", join(make([]byte, 12), core, make([]byte, 2000), info, make([]byte, 40)),
			[]Gap{{0, 12}, {12 + int64(len(core)), 2000}}, 2},
		{"no note after", join(core, make([]byte, 12), []byte("\xff\xff\xff\xff")), nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := ParseAligned(bytes.NewReader(tc.bytes), int64(len(tc.bytes)), le, 0)
			if tc.gaps == nil {
				if err == nil || !strings.Contains(err.Error(), "an all-zero note header with more after it") {
					t.Fatalf("error is %v", err)
				}
				return
			}
			if err != nil || len(s.Notes) != tc.notes || !slices.Equal(s.Gaps, tc.gaps) {
				t.Fatalf("got %+v, %v", s, err)
			}
			if _, err := parse(tc.bytes, le); err == nil {
				t.Error("Parse reads on")
			}
		})
	}
}
