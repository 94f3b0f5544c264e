package vmcore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/testdumps"
)

// opener returns a function for openFlat that takes any plain form, a core or
// not.
func opener() func(io.ReaderAt, int64) (Core, error) {
	return func(r io.ReaderAt, size int64) (Core, error) { return elfCore{&elfcore.ELF{R: r, Size: size}}, nil }
}

func mustFlat(t testing.TB, b []byte) *flatDump {
	t.Helper()
	f, err := openFlat(bytes.NewReader(b), int64(len(b)), Open)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plainOf reads all of the plain form.
func plainOf(t testing.TB, f *flatDump) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.PlainSize()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFlatReal reads dumps that makedumpfile -F wrote as makedumpfile -R puts
// them together: the sums are those of its output.
func TestFlatReal(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int64
		sum  string
		same string // the core that makedumpfile -E wrote of the same memory
		runs int
	}{
		{"flat/deb-t1.flat-elf31", 9311224, "3b0f5f1c45e998b5016b3a9534ff5f94e0711546314b8cac45a8bec0ed7d33a0", "deb-t1.elf31", 4},
		{"flat/cloud-c1.flat-elf31", 5677740, "aff5462d8f0baa31c05a9b2ad83440787aca82cd688575710946e7fbc1184658", "cloud-c1.elf31", 5},
		{"flat/cloud-c1.flat-zlib", 646834, "7e1895a56ea66d107472d1235492c4033481f777c308a75591f8390f3bd37e71", "", 14},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im := testcores.Image(t, tc.name)
			open := Open
			if tc.same == "" {
				open = opener() // a container of another kind
			}
			f, err := openFlat(im, im.Size(), open)
			if err != nil {
				t.Fatal(err)
			}
			b := plainOf(t, f)
			if sum := sha256.Sum256(b); int64(len(b)) != tc.size || hex.EncodeToString(sum[:]) != tc.sum {
				t.Errorf("%d bytes with the sum %x, want %d with %s", len(b), sum, tc.size, tc.sum)
			}
			if len(f.View.Runs) != tc.runs {
				t.Errorf("%d runs, want %d", len(f.View.Runs), tc.runs)
			}
			if tc.same == "" {
				return
			}
			got, err := sparse.New(b)
			if err != nil {
				t.Fatal(err)
			}
			core := testcores.Image(t, tc.same)
			if d := sparse.Diff(got, core); d != nil {
				t.Error(d)
			}
			direct, err := elfcore.Open(core, core.Size())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := f.Format(), "flat-elf64"; got != want {
				t.Errorf("format %s, want %s", got, want)
			}
			if got, want := fmt.Sprint(f.Verify()), fmt.Sprint(direct.Verify()); got != want {
				t.Errorf("verify finds %s, and of the plain form %s", got, want)
			}
			p, q := make([]byte, 100), make([]byte, 100)
			for r := range f.Ranges() {
				_, err1 := f.ReadPhys(p, r.Addr)
				_, err2 := direct.ReadPhys(q, r.Addr)
				if err1 != nil || err2 != nil || !bytes.Equal(p, q) {
					t.Errorf("memory at %#x differs (%v, %v)", r.Addr, err1, err2)
				}
			}
		})
	}
}

// TestFlatHostile: each row is a dump whose plain form no reader may take.
func TestFlatHostile(t *testing.T) {
	raw := func(parts ...[]byte) []byte { return append(flat.Header(), bytes.Join(parts, nil)...) }
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
		is    error
	}{
		{"nothing after the header", raw(), "record at offset 0x1000: found the end of the file at 0x1000, expected a record, or the end marker", ErrTruncated},
		{"no end marker", raw(testdumps.RecordHeader(0, 1), []byte("a")), "record at offset 0x1011: found the end of the file at 0x1011", ErrTruncated},
		{"half an end marker", raw(flat.EndMarker[:8]), "found the end of the file at 0x1008", ErrTruncated},
		{"size of 2^63 - 1", raw(testdumps.RecordHeader(0, math.MaxInt64), []byte("a"), flat.EndMarker), "record at offset 0x1021: found the end of the file at 0x1021", ErrTruncated},
		{"body beyond the file", raw(testdumps.RecordHeader(0, 18), []byte("a"), flat.EndMarker), "record at offset 0x1021: found the end of the file at 0x1021, expected a record, or the end marker; in the plain form: ", ErrTruncated},
		{"flattened twice", testdumps.Flat(testdumps.At(0, testdumps.Flat())), "in the plain form: signature at offset 0x0: found a flattened dump within a flattened dump", nil},
		{"no dump in it", testdumps.Flat(testdumps.At(0, []byte("hello"))), "in the plain form: ", ErrNotCore},
		{"nothing in it", testdumps.Flat(), "in the plain form: ", ErrNotCore},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := openFlat(bytes.NewReader(tc.bytes), int64(len(tc.bytes)), Open)
			if f != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is no %v", err, tc.is)
			}
			var format *FormatError
			if !errors.As(err, &format) {
				t.Errorf("%v is no FormatError", err)
			}
		})
	}
}

// TestFlatTruncated: wherever a dump ends, the part that is there opens, and
// counts as truncated.
func TestFlatTruncated(t *testing.T) {
	plain := testcores.Bytes(t, "single-load")[:3000]
	whole := testdumps.Flat(testdumps.InRecords(plain, 700)...)
	for n := range len(whole) + 1 {
		f, err := openFlat(bytes.NewReader(whole[:n]), int64(n), opener())
		switch {
		case n < len(flat.Signature):
			if !errors.Is(err, ErrNotCore) {
				t.Fatalf("%d bytes of %d: %v", n, len(whole), err)
			}
			continue
		case n < flat.HeaderSize:
			if !errors.Is(err, ErrTruncated) {
				t.Fatalf("%d bytes of %d: %v", n, len(whole), err)
			}
			continue
		case err != nil:
			t.Fatalf("%d bytes of %d: %v", n, len(whole), err)
		}
		came := 0
		for left := n - flat.HeaderSize; left > flat.RecordHeader; left -= 700 + flat.RecordHeader {
			came += min(left-flat.RecordHeader, 700)
		}
		if came = min(came, len(plain)); !bytes.Equal(plainOf(t, f), plain[:came]) {
			t.Fatalf("%d bytes of %d: the plain form has %#x bytes, or others", n, len(whole), f.PlainSize())
		}
		if truncated(f) != (n < len(whole)) || f.IsCut() != (n < len(whole)) {
			t.Fatalf("%d bytes of %d: truncated is %v", n, len(whole), truncated(f))
		}
	}
}

// TestFlatCut reads a dump of which only the end marker is missing, and changes
// it where its records have the room.
func TestFlatCut(t *testing.T) {
	s := testdumps.KDumps["64-room"]
	plain := s.Build()
	whole := testdumps.Flat(testdumps.InRecords(plain, 5000)...)
	f := mustFlat(t, whole[:len(whole)-flat.RecordHeader])
	testdumps.CheckMade(t, f.Core.(kdumpCore).Dump, s)
	found := testdumps.WithoutTables(f.Verify())
	if len(found) != 1 || found[0].Remark || !strings.Contains(found[0].Text, "expected the end marker") {
		t.Errorf("verify finds %v", found)
	}
	sp := f.Notes().Append(testdumps.VMCSInfo)
	p, err := f.PlanInPlace(Slack, sp)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut")
	if err := os.WriteFile(path, whole[:len(whole)-flat.RecordHeader], 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := p.Run(t.Context(), fileMedium{o, nil}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != len(whole)-flat.RecordHeader {
		t.Errorf("%d bytes, want %d (%v)", len(b), len(whole)-flat.RecordHeader, err)
	}
	if g := mustFlat(t, b); !bytes.Contains(testdumps.NotesText(t, g.Notes()), []byte(elfnote.VMCSInfo)) || !g.IsCut() {
		t.Errorf("notes %s", testdumps.NotesText(t, g.Notes()))
	}
	if _, err := f.PlanInPlace(End, sp); !errors.Is(err, ErrNoPlace) || !strings.Contains(err.Error(), "without an end marker") {
		t.Errorf("error is %v, want ErrNoPlace", err)
	}
}

// TestFlatVerify names what is wrong with records.
func TestFlatVerify(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-slack")
	whole := testdumps.InRecords(plain, 4096)
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  []string
	}{
		{"in order", testdumps.Flat(whole...), nil},
		{"backwards", testdumps.Flat(testdumps.Backwards(whole)...), nil},
		{"a byte twice", testdumps.Flat(append(whole, testdumps.At(4095, []byte{plain[4095]}))...),
			[]string{"remark: 0x1 bytes of the plain form are in more than one record, the first at offset 0xfff"}},
		{"a page of memory missing", testdumps.Flat(append(whole[:4:4], whole[5:]...)...),
			[]string{"fault: 0x1000 bytes that the dump consists of are in no record, the first at offset 0x4000 of the plain form"}},
		{"the rest of a device", append(testdumps.Flat(whole...), make([]byte, 512)...),
			[]string{fmt.Sprintf("remark: 0x200 bytes after the end marker at offset %#x of the file", len(testdumps.Flat(whole...))-16)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := mustFlat(t, tc.bytes)
			var got []string
			for _, x := range f.Verify() {
				kind := "fault"
				if x.Remark {
					kind = "remark"
				}
				got = append(got, kind+": "+x.Text)
				if x.Readers == "" {
					t.Errorf("%s: of which reader?", x.Text)
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("got %q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}
