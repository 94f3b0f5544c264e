package sparse

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// write puts bytes at an offset of a file or of an image under construction.
type write struct {
	off  int64
	text string
}

func sparseFile(t *testing.T, size int64, writes ...write) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if _, err := f.WriteAt([]byte(w.text), w.off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func mustScan(t *testing.T, f *os.File) *Image {
	t.Helper()
	im, err := Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestRoundTrip(t *testing.T) {
	zeros := strings.Repeat("\x00", 3*blockSize)
	tests := []struct {
		name    string
		size    int64
		writes  []write
		extents int
		data    int64
	}{
		{name: "empty"},
		{name: "one byte", size: 1, writes: []write{{0, "x"}}, extents: 1, data: 1},
		{name: "nothing but a hole", size: 1 << 40},
		{name: "nothing but zeros, written", size: int64(len(zeros)), writes: []write{{0, zeros}}},
		{name: "tail shorter than a block", size: blockSize + 7, writes: []write{{blockSize + 6, "x"}}, extents: 1, data: 7},
		{name: "neighbours are merged", size: 4 * blockSize, writes: []write{{1, "x"}, {blockSize, "y"}, {3 * blockSize, "z"}}, extents: 2, data: 3 * blockSize},
		{name: "zeros between data are left out", size: 5 * blockSize, writes: []write{{0, "x" + zeros + zeros[:blockSize-2] + "y"}}, extents: 2, data: 2 * blockSize},
		{name: "far apart", size: 1<<40 + 5, writes: []write{{1 << 39, "x"}, {1 << 40, "abcde"}}, extents: 2, data: blockSize + 5},
		{name: "more than the scan's buffer", size: scanBuffer + 2*blockSize, writes: []write{{0, strings.Repeat("x", scanBuffer+blockSize)}}, extents: 1, data: scanBuffer + blockSize},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := sparseFile(t, test.size, test.writes...)
			im := mustScan(t, f)
			if im.Size() != test.size || len(im.extents) != test.extents || im.Data() != test.data {
				t.Errorf("scanned size %d, %d extents, %d bytes; want %d, %d, %d",
					im.Size(), len(im.extents), im.Data(), test.size, test.extents, test.data)
			}

			var packed, again bytes.Buffer
			if err := Pack(&packed, f); err != nil {
				t.Fatal(err)
			}
			out := sparseFile(t, 3*blockSize, write{0, strings.Repeat("old", blockSize)})
			if err := unpack(bytes.NewReader(packed.Bytes()), out); err != nil {
				t.Fatal(err)
			}
			if d := Diff(mustScan(t, out), im); d != nil {
				t.Errorf("unpacked: %v", d)
			}
			if err := Pack(&again, out); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(packed.Bytes(), again.Bytes()) {
				t.Error("packing what was unpacked gives other bytes")
			}

			info, err := out.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > test.data+16*blockSize {
				t.Errorf("unpacked file takes %d bytes of disk for %d bytes of data", used, test.data)
			}
		})
	}
}

func TestScanRefuses(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := Scan(dir); err == nil || !strings.Contains(err.Error(), "expected a regular file") {
		t.Errorf("scanning a directory: %v", err)
	}

	f := sparseFile(t, 0)
	chunk := strings.Repeat("x", 1<<20)
	for i := range int64(maxData>>20) + 1 {
		if _, err := f.WriteAt([]byte(chunk), i<<20); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Scan(f); !errors.Is(err, errTooMuchData) {
		t.Errorf("scanning %d MiB: %v", maxData>>20+1, err)
	}
}

func TestReadAt(t *testing.T) {
	text := strings.Repeat("a", blockSize) + strings.Repeat("\x00", blockSize) + "tail"
	im, err := New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(text))
	tests := []struct {
		name string
		off  int64
		len  int
		want string
		err  error
	}{
		{"inside an extent", 5, 3, "aaa", nil},
		{"out of an extent into a hole", blockSize - 2, 4, "aa\x00\x00", nil},
		{"all of it", 0, len(text), text, nil},
		{"past the end", size - 2, 5, "il", io.EOF},
		{"at the end", size, 1, "", io.EOF},
		{"far after the end", math.MaxInt64, 1, "", io.EOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := bytes.Repeat([]byte("?"), test.len)
			n, err := im.ReadAt(p, test.off)
			if string(p[:n]) != test.want || err != test.err {
				t.Errorf("got %q, %v; want %q, %v", p[:n], err, test.want, test.err)
			}
		})
	}
	if _, err := im.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("no error at a negative offset")
	}
}

// stream builds the uncompressed form of a packed file: the size, then fields,
// strings as bytes and numbers as uint64.
func stream(size uint64, fields ...any) []byte {
	b := binary.LittleEndian.AppendUint64([]byte(magic), size)
	for _, field := range fields {
		switch field := field.(type) {
		case string:
			b = append(b, field...)
		case int:
			b = binary.LittleEndian.AppendUint64(b, uint64(field))
		case int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(field))
		}
	}
	return b
}

func compress(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestLoadRefuses(t *testing.T) {
	block := strings.Repeat("x", blockSize)
	good := stream(3*blockSize, 0, blockSize, block, 3*blockSize, 0)
	if _, err := Load(bytes.NewReader(compress(good))); err != nil {
		t.Fatalf("the good stream: %v", err)
	}
	badSum := compress(good)
	badSum[len(badSum)-8] ^= 1

	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "not a packed file"},
		{"not gzip", good, "not a packed file"},
		{"wrong sum", badSum, "checksum"},
		{"garbage after the gzip stream", append(compress(good), "garbage!!!"...), "gzip"},
		{"cut in the gzip stream", compress(good)[:40], "unexpected EOF"},
		{"empty gzip stream", compress(nil), "header: unexpected EOF"},
		{"wrong magic", compress([]byte("sparse2\n\x00\x00\x00\x00\x00\x00\x00\x00")), `found "sparse2\n"`},
		{"negative size", compress(stream(1 << 63)), "expected at most"},
		{"no end record", compress(good[:len(good)-16]), "unexpected EOF"},
		{"cut in a record", compress(good[:100]), "unexpected EOF"},
		{"data after the end record", compress(append(bytes.Clone(good), 0)), "data after"},
		{"end record at another offset", compress(stream(blockSize, 0, 0)), "empty"},
		{"record past the end", compress(stream(blockSize, blockSize, blockSize, block)), "past the file's end"},
		{"length that overflows", compress(stream(1<<40, blockSize, -blockSize)), "past the file's end"},
		{"odd offset", compress(stream(1<<40, 5, blockSize, block)), "whole 4096-byte blocks"},
		{"odd length", compress(stream(1<<40, 0, 5, "xxxxx")), "whole 4096-byte blocks"},
		{"records that touch", compress(stream(1<<40, 0, blockSize, block, blockSize, blockSize, block)), "touches"},
		{"records out of order", compress(stream(1<<40, blockSize, blockSize, block, 0, blockSize, block)), "touches"},
		{"huge record", compress(stream(1<<62, 0, int64(1<<61))), "more than 64 MiB"},
		{"huge record with nothing in it", compress(stream(1<<62, 0, maxData)), "unexpected EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := sparseFile(t, 0, write{0, "kept"})
			if err := unpack(bytes.NewReader(test.in), f); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if kept, err := io.ReadAll(f); string(kept) != "kept" || err != nil {
				t.Errorf("the file is now %q, %v", kept, err)
			}
		})
	}
}

// FuzzLoad shows that a stream is refused, or is the one form of an image that
// it decodes to.
func FuzzLoad(f *testing.F) {
	block := strings.Repeat("x", blockSize)
	f.Add(stream(0, 0, 0))
	f.Add(stream(3*blockSize+1, 0, blockSize, block, 3*blockSize, 1, "y", 3*blockSize+1, 0))
	f.Add(stream(1<<62, 0, maxData))
	f.Fuzz(func(t *testing.T, in []byte) {
		Load(bytes.NewReader(in)) // no panic; a sum that is right is beyond fuzzing
		im, err := decode(bytes.NewReader(in))
		if err != nil {
			if im != nil {
				t.Error("an image with an error")
			}
			return
		}
		var out bytes.Buffer
		if err := im.encode(&out); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in, out.Bytes()) {
			t.Errorf("decoded %q, encoded %q", in, out.Bytes())
		}
	})
}

// unpack makes f what r was packed from. A stream found to be bad leaves f as
// it was.
func unpack(r io.Reader, f *os.File) error {
	im, err := Load(r)
	if err != nil {
		return err
	}
	return im.Expand(f)
}
