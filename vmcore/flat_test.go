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
)

// A record is one of a flattened dump made for a test.
type record struct {
	off  int64
	body []byte
}

// flatOf returns a flattened dump of the records as they come.
func flatOf(records ...record) []byte {
	b := flat.Header()
	for _, r := range records {
		b = append(b, recordHeader(r.off, int64(len(r.body)))...)
		b = append(b, r.body...)
	}
	return append(b, flat.EndMarker...)
}

func recordHeader(off, size int64) []byte {
	b := make([]byte, flat.RecordHeader)
	flat.PutRecordHeader(b, off, size)
	return b
}

// inRecords cuts plain into records of size bytes.
func inRecords(plain []byte, size int) (records []record) {
	for off := 0; off < len(plain); off += size {
		records = append(records, record{int64(off), plain[off:min(off+size, len(plain))]})
	}
	return records
}

// opener returns a function for openFlat that takes any plain form, a core or not.
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

// TestFlatView: holes are zeros, the later record wins.
func TestFlatView(t *testing.T) {
	rec := func(off int64, body string) record { return record{off, []byte(body)} }
	big := strings.Repeat("0123456789", 1000)
	for _, tc := range []struct {
		name    string
		records []record
		want    string
		runs    int
		shared  string
	}{
		{"no records", nil, "", 0, "[]"},
		{"in order", []record{rec(0, "abc"), rec(3, "def"), rec(6, "g")}, "abcdefg", 2, "[]"},
		{"backwards", []record{rec(4, "ef"), rec(2, "cd"), rec(0, "ab")}, "abcdef", 3, "[]"},
		{"a hole at the start and one within", []record{rec(2, "c"), rec(5, "f")}, "\x00\x00c\x00\x00f", 2, "[]"},
		{"the same twice", []record{rec(0, "abc"), rec(0, "xyz")}, "xyz", 1, "[0x3 bytes at 0x0]"},
		{"a later one within", []record{rec(0, "abcdef"), rec(2, "xy")}, "abxyef", 3, "[0x2 bytes at 0x2]"},
		{"an earlier one within", []record{rec(2, "xy"), rec(0, "abcdef")}, "abcdef", 1, "[0x2 bytes at 0x2]"},
		{"a later one over the seam", []record{rec(0, "abc"), rec(3, "def"), rec(2, "xy")}, "abxyef", 3, "[0x2 bytes at 0x2]"},
		{"steps down", []record{rec(0, "abcd"), rec(2, "efgh"), rec(4, "ijkl")}, "abefijkl", 3, "[0x4 bytes at 0x2]"},
		{"steps up", []record{rec(4, "ijkl"), rec(2, "efgh"), rec(0, "abcd")}, "abcdghkl", 3, "[0x4 bytes at 0x2]"},
		{"over a hole", []record{rec(0, "ab"), rec(6, "gh"), rec(1, "123456")}, "a123456h", 3, "[0x1 bytes at 0x1 0x1 bytes at 0x6]"},
		{"three deep", []record{rec(0, "aaaaaaa"), rec(1, "bbbbb"), rec(2, "ccc")}, "abcccba", 5, "[0x5 bytes at 0x1]"},
		{"out of the middle of a run", append(inRecords([]byte(big), 10), rec(4995, "abcdefghij")), big[:4995] + "abcdefghij" + big[5005:], 5, "[0xa bytes at 0x1383]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := flatOf(tc.records...)
			f, err := openFlat(bytes.NewReader(b), int64(len(b)), opener())
			if err != nil {
				t.Fatal(err)
			}
			if got := string(plainOf(t, f)); got != tc.want {
				t.Errorf("it reads %q, want %q", got, tc.want)
			}
			if len(f.View.Runs) != tc.runs || fmt.Sprint(f.View.Shared) != tc.shared {
				t.Errorf("%d runs, shared %v; want %d, %s", len(f.View.Runs), f.View.Shared, tc.runs, tc.shared)
			}
			for off := range len(tc.want) {
				p := make([]byte, 3)
				n, err := f.ReadAt(p, int64(off))
				if string(p[:n]) != tc.want[off:min(off+3, len(tc.want))] || (n < 3) != errors.Is(err, io.EOF) {
					t.Fatalf("at %d: %q, %v", off, p[:n], err)
				}
			}
			if n, err := f.ReadAt(make([]byte, 1), int64(len(tc.want))); n != 0 || err != io.EOF {
				t.Errorf("after the end: %d, %v", n, err)
			}
			if _, err := f.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
				t.Errorf("before the start: %v", err)
			}
		})
	}
}

// TestFlatHostile: each row is a dump that no reader may take.
func TestFlatHostile(t *testing.T) {
	raw := func(parts ...[]byte) []byte { return append(flat.Header(), bytes.Join(parts, nil)...) }
	head := func(at int, b byte) []byte {
		h := append(flat.Header(), flat.EndMarker...)
		h[at] = b
		return h
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
		is    error
	}{
		{"empty", nil, `signature at offset 0x0: found "", expected "makedumpfile\x00\x00\x00\x00"`, ErrNotCore},
		{"another signature", head(12, 'x'), `found "makedumpfilex`, ErrNotCore},
		{"another type", head(23, 2), "type at offset 0x10: found 2, expected 1", nil},
		{"little-endian", head(16, 1), "type at offset 0x10: found 72057594037927937, expected 1", nil},
		{"another version", head(31, 2), "version at offset 0x18: found 2, expected 1", nil},
		{"the header cut", flat.Header()[:4000], "makedumpfile_header at offset 0x0: found the end of the file at 0xfa0, expected 4096 bytes", ErrTruncated},
		{"nothing after the header", raw(), "record at offset 0x1000: found the end of the file at 0x1000, expected a record, or the end marker", ErrTruncated},
		{"no end marker", raw(recordHeader(0, 1), []byte("a")), "record at offset 0x1011: found the end of the file at 0x1011", ErrTruncated},
		{"half an end marker", raw(flat.EndMarker[:8]), "found the end of the file at 0x1008", ErrTruncated},
		{"negative offset", raw(recordHeader(-2, 1), []byte("a"), flat.EndMarker), "record at offset 0x1000: found offset -2, size 1", nil},
		{"offset -1 with a size", raw(recordHeader(-1, 1), []byte("a"), flat.EndMarker), "found offset -1, size 1, expected an offset of 0 or more and a size of 1 or more, or -1 for both", nil},
		{"offset with size -1", raw(recordHeader(0, -1), flat.EndMarker), "found offset 0, size -1", nil},
		{"size 0", raw(recordHeader(0, 0), flat.EndMarker), "found offset 0, size 0", nil},
		{"least size", raw(recordHeader(0, math.MinInt64), flat.EndMarker), "found offset 0, size -9223372036854775808", nil},
		{"least offset", raw(recordHeader(math.MinInt64, 1), []byte("a"), flat.EndMarker), "found offset -9223372036854775808, size 1", nil},
		{"end of 2^63", raw(recordHeader(math.MaxInt64, 1), []byte("a"), flat.EndMarker), "found offset 9223372036854775807, size 1, expected an end below 1<<63", nil},
		{"size of 2^63 - 1", raw(recordHeader(0, math.MaxInt64), []byte("a"), flat.EndMarker), "record at offset 0x1021: found the end of the file at 0x1021", ErrTruncated},
		{"body beyond the file", raw(recordHeader(0, 18), []byte("a"), flat.EndMarker), "record at offset 0x1021: found the end of the file at 0x1021, expected a record, or the end marker; in the plain form: ", ErrTruncated},
		{"offset of 2^62", raw(recordHeader(1<<62, 1), []byte("a"), flat.EndMarker), "records at offset 0x1000: found 0x4000000000000000 bytes that none of them holds", nil},
		{"flattened twice", flatOf(record{0, flatOf()}), "in the plain form: signature at offset 0x0: found a flattened dump within a flattened dump", nil},
		{"no dump in it", flatOf(record{0, []byte("hello")}), "in the plain form: ", ErrNotCore},
		{"nothing in it", flatOf(), "in the plain form: ", ErrNotCore},
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

// TestFlatTruncated: wherever a dump ends, what came of it opens, and counts as
// truncated.
func TestFlatTruncated(t *testing.T) {
	plain := testcores.Bytes(t, "single-load")[:3000]
	whole := flatOf(inRecords(plain, 700)...)
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
		if Truncated(f) != (n < len(whole)) || f.IsCut() != (n < len(whole)) {
			t.Fatalf("%d bytes of %d: truncated is %v", n, len(whole), Truncated(f))
		}
	}
}

// TestFlatCut reads a dump of which only the end marker is missing, and changes
// it where its records have the room.
func TestFlatCut(t *testing.T) {
	s := kdumpSpecs["64-room"]
	plain := s.build()
	whole := flatOf(inRecords(plain, 5000)...)
	f := mustFlat(t, whole[:len(whole)-flat.RecordHeader])
	checkMade(t, f.Core.(kdumpCore).Dump, s)
	found := withoutTables(f.Verify())
	if len(found) != 1 || found[0].Remark || !strings.Contains(found[0].Text, "expected the end marker") {
		t.Errorf("verify finds %v", found)
	}
	sp := f.Notes().Append(testVMCSInfo)
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
	if g := mustFlat(t, b); !bytes.Contains(notesText(t, g.Notes()), []byte(elfnote.VMCSInfo)) || !g.IsCut() {
		t.Errorf("notes %s", notesText(t, g.Notes()))
	}
	if _, err := f.PlanInPlace(End, sp); !errors.Is(err, ErrNoPlace) || !strings.Contains(err.Error(), "without an end marker") {
		t.Errorf("error is %v, want ErrNoPlace", err)
	}
}

// TestFlatChanged: a file that has become shorter is no end of the plain form.
func TestFlatChanged(t *testing.T) {
	b := flatOf(inRecords(testcores.Bytes(t, "single-load"), 700)...)
	cut := len(b) - 2000
	if _, err := openFlat(bytes.NewReader(b[:cut]), int64(len(b)), opener()); !errors.Is(err, ErrChanged) {
		t.Errorf("while it is opened: %v", err)
	}
	f := mustFlat(t, b)
	f.View.R = bytes.NewReader(b[:cut])
	if _, err := io.ReadAll(io.NewSectionReader(f, 0, f.PlainSize())); !errors.Is(err, ErrChanged) {
		t.Errorf("while it is read: %v", err)
	}
}

// TestFlatHugeRecord: one record of a sparse file counts as many, and is refused
// before it does.
func TestFlatHugeRecord(t *testing.T) {
	b := append(flat.Header(), recordHeader(0, 1<<62)...)
	before := allocated()
	_, err := openFlat(sparseFile(b), 1<<62+1<<20, opener())
	if err == nil || !strings.Contains(err.Error(), "record at offset 0x1000: more than") {
		t.Errorf("error is %v", err)
	}
	if n := allocated() - before; n > 1<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

// A sparseFile has zeros after its bytes, without end.
type sparseFile []byte

func (f sparseFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f)) {
		copy(p, f[off:])
	}
	return len(p), nil
}
