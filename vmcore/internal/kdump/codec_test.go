package kdump_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/testdumps"
)

func TestInflate(t *testing.T) {
	page := bytes.Repeat([]byte("0123456789abcdef"), 4096/16)
	twice, half := append(bytes.Clone(page), page...), page[:2048]
	bomb := make([]byte, 16<<20)
	var streamed bytes.Buffer // a zstd frame that does not tell its size
	w, _ := zstd.NewWriter(&streamed)
	w.Write(bomb)
	w.Close()
	for _, tc := range []struct {
		name  string
		src   []byte
		flags uint32
		err   string
	}{
		{"uncompressed", page, kdump.Raw, ""},
		{"zlib", testdumps.Deflate(page, kdump.Zlib), kdump.Zlib, ""},
		{"lzo", testdumps.Deflate(page, kdump.LZO), kdump.LZO, ""},
		{"snappy", testdumps.Deflate(page, kdump.Snappy), kdump.Snappy, ""},
		{"zstd", testdumps.Deflate(page, kdump.Zstd), kdump.Zstd, ""},
		{"uncompressed, half", half, kdump.Raw, "0x800 bytes, expected a page of 0x1000"},
		{"zlib, half", testdumps.Deflate(half, kdump.Zlib), kdump.Zlib, "zlib: unexpected EOF"},
		{"lzo, half", testdumps.Deflate(half, kdump.LZO), kdump.LZO, "0x800 bytes, expected a page of 0x1000"},
		{"snappy, half", testdumps.Deflate(half, kdump.Snappy), kdump.Snappy, "0x800 bytes, expected a page of 0x1000"},
		{"zstd, half", testdumps.Deflate(half, kdump.Zstd), kdump.Zstd, "0x800 bytes, expected a page of 0x1000"},
		{"zlib, twice as much", testdumps.Deflate(twice, kdump.Zlib), kdump.Zlib, "0x1001 bytes, expected a page of 0x1000"},
		{"lzo, twice as much", testdumps.Deflate(twice, kdump.LZO), kdump.LZO, "not LZO1X data of a page"},
		{"snappy, twice as much", testdumps.Deflate(twice, kdump.Snappy), kdump.Snappy, "0x2000 bytes, expected a page of 0x1000"},
		{"zstd, twice as much", testdumps.Deflate(twice, kdump.Zstd), kdump.Zstd, "zstd: "},
		{"zlib bomb", testdumps.Deflate(bomb, kdump.Zlib), kdump.Zlib, "0x1001 bytes, expected a page of 0x1000"},
		{"snappy bomb", testdumps.Deflate(bomb, kdump.Snappy), kdump.Snappy, "0x1000000 bytes, expected a page of 0x1000"},
		{"zstd bomb", testdumps.Deflate(bomb, kdump.Zstd), kdump.Zstd, "zstd: "},
		{"zstd bomb that keeps its size to itself", streamed.Bytes(), kdump.Zstd, "zstd: "},
		{"zlib, checksum wrong", append(testdumps.Deflate(page, kdump.Zlib)[:len(testdumps.Deflate(page, kdump.Zlib))-1], 0xff), kdump.Zlib, "invalid checksum"},
		{"zlib, cut", testdumps.Deflate(page, kdump.Zlib)[:10], kdump.Zlib, "unexpected EOF"},
		{"lzo, cut", testdumps.Deflate(page, kdump.LZO)[:20], kdump.LZO, "lzo: "},
		{"snappy, cut", testdumps.Deflate(page, kdump.Snappy)[:20], kdump.Snappy, "snappy: "},
		{"zstd, cut", testdumps.Deflate(page, kdump.Zstd)[:20], kdump.Zstd, "zstd: "},
		{"zlib, nothing", nil, kdump.Zlib, "EOF"},
		{"zstd, nothing", nil, kdump.Zstd, "0x0 bytes"},
		{"two methods", page, kdump.Zlib | kdump.LZO, "flags 0x3 name more than one compression"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &kdump.Codec{}
			for range 2 { // a codec used before, too
				got := make([]byte, 4096)
				before := testdumps.Allocated()
				err := c.Inflate(got, tc.src, tc.flags)
				if n := testdumps.Allocated() - before; n > 1<<20 {
					t.Errorf("%d bytes allocated", n)
				}
				switch {
				case tc.err == "" && (err != nil || !bytes.Equal(got, page)):
					t.Errorf("another page, %v", err)
				case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
					t.Errorf("error is %v, want %q", err, tc.err)
				}
			}
		})
	}
}

// TestInflatePanics: what a decompressor does to hostile bytes is its own
// affair.
func TestInflatePanics(t *testing.T) {
	c := &kdump.Codec{Zlib: brokenReader{}}
	if err := c.Inflate(make([]byte, 4096), make([]byte, 10), kdump.Zlib); err == nil || !strings.Contains(err.Error(), "the decompressor fails: index") {
		t.Errorf("error is %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read(p []byte) (int, error) { panic("index out of range") }

func (brokenReader) Close() error { return nil }

func (brokenReader) Reset(r io.Reader, _ []byte) error { return nil }

func FuzzInflate(f *testing.F) {
	page := bytes.Repeat([]byte("0123456789abcdef"), 4096/16)
	for _, m := range testdumps.Methods[1:] {
		f.Add(testdumps.Deflate(page, m), m)
	}
	f.Fuzz(func(t *testing.T, src []byte, flags uint32) {
		before := testdumps.Allocated()
		(&kdump.Codec{}).Inflate(make([]byte, 4096), src, flags)
		if n := testdumps.Allocated() - before; n > 2<<20 {
			t.Errorf("%d bytes allocated", n)
		}
	})
}
