package flat_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

func mustOpen(t testing.TB, b []byte) *flat.Records {
	t.Helper()
	f, err := flat.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plainOf reads all of the plain form.
func plainOf(t testing.TB, f *flat.Records) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.View.Size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestView: holes are zeros, the later record wins.
func TestView(t *testing.T) {
	rec := func(off int64, body string) testdumps.Record { return testdumps.At(off, []byte(body)) }
	big := strings.Repeat("0123456789", 1000)
	for _, tc := range []struct {
		name    string
		records []testdumps.Record
		want    string
		runs    int
		shared  string
	}{
		{"no records", nil, "", 0, "[]"},
		{"in order", []testdumps.Record{rec(0, "abc"), rec(3, "def"), rec(6, "g")}, "abcdefg", 2, "[]"},
		{"backwards", []testdumps.Record{rec(4, "ef"), rec(2, "cd"), rec(0, "ab")}, "abcdef", 3, "[]"},
		{"a hole at the start and one within", []testdumps.Record{rec(2, "c"), rec(5, "f")}, "\x00\x00c\x00\x00f", 2, "[]"},
		{"the same twice", []testdumps.Record{rec(0, "abc"), rec(0, "xyz")}, "xyz", 1, "[0x3 bytes at 0x0]"},
		{"a later one within", []testdumps.Record{rec(0, "abcdef"), rec(2, "xy")}, "abxyef", 3, "[0x2 bytes at 0x2]"},
		{"an earlier one within", []testdumps.Record{rec(2, "xy"), rec(0, "abcdef")}, "abcdef", 1, "[0x2 bytes at 0x2]"},
		{"a later one over the seam", []testdumps.Record{rec(0, "abc"), rec(3, "def"), rec(2, "xy")}, "abxyef", 3, "[0x2 bytes at 0x2]"},
		{"steps down", []testdumps.Record{rec(0, "abcd"), rec(2, "efgh"), rec(4, "ijkl")}, "abefijkl", 3, "[0x4 bytes at 0x2]"},
		{"steps up", []testdumps.Record{rec(4, "ijkl"), rec(2, "efgh"), rec(0, "abcd")}, "abcdghkl", 3, "[0x4 bytes at 0x2]"},
		{"over a hole", []testdumps.Record{rec(0, "ab"), rec(6, "gh"), rec(1, "123456")}, "a123456h", 3, "[0x1 bytes at 0x1 0x1 bytes at 0x6]"},
		{"three deep", []testdumps.Record{rec(0, "aaaaaaa"), rec(1, "bbbbb"), rec(2, "ccc")}, "abcccba", 5, "[0x5 bytes at 0x1]"},
		{"out of the middle of a run", append(testdumps.InRecords([]byte(big), 10), rec(4995, "abcdefghij")), big[:4995] + "abcdefghij" + big[5005:], 5, "[0xa bytes at 0x1383]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := testdumps.Flat(tc.records...)
			f, err := flat.Open(bytes.NewReader(b), int64(len(b)))
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

// TestChanged: a file that has become shorter is no end of the plain form.
func TestChanged(t *testing.T) {
	b := testdumps.Flat(testdumps.InRecords(testcores.Bytes(t, "single-load"), 700)...)
	cut := len(b) - 2000
	if _, err := flat.Open(bytes.NewReader(b[:cut]), int64(len(b))); !errors.Is(err, plan.ErrChanged) {
		t.Errorf("while it is opened: %v", err)
	}
	f := mustOpen(t, b)
	f.View.R = bytes.NewReader(b[:cut])
	if _, err := io.ReadAll(io.NewSectionReader(f, 0, f.View.Size)); !errors.Is(err, plan.ErrChanged) {
		t.Errorf("while it is read: %v", err)
	}
}

// TestHugeRecord: one record of a sparse file counts as many, and is refused
// before it does.
func TestHugeRecord(t *testing.T) {
	b := append(flat.Header(), testdumps.RecordHeader(0, 1<<62)...)
	before := testdumps.Allocated()
	_, err := flat.Open(sparseFile(b), 1<<62+1<<20)
	if err == nil || !strings.Contains(err.Error(), "record at offset 0x1000: more than") {
		t.Errorf("error is %v", err)
	}
	if n := testdumps.Allocated() - before; n > 1<<20 {
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
