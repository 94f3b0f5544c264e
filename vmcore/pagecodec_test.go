package vmcore

import (
	"bytes"
	"compress/zlib"
	"io"
	"strings"
	"testing"

	"vmcsnote/vmcore/internal/kdump"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// deflate compresses a page. For lzo it must be 16 bytes over and over: there is
// no LZO compressor in Go.
func deflate(page []byte, flags uint32) []byte {
	var b bytes.Buffer
	switch flags {
	case kdump.Zlib:
		w := zlib.NewWriter(&b)
		w.Write(page)
		w.Close()
	case kdump.LZO:
		b.WriteByte(17 + 16) // 16 literals, then a match of all the rest at distance 16
		b.Write(page[:16])
		n := len(page) - 16 - 2 - 31
		b.WriteByte(0x20)
		b.Write(make([]byte, (n-1)/255))
		b.Write([]byte{byte((n-1)%255 + 1), (16 - 1) << 2, 0})
		b.Write([]byte{0x11, 0, 0})
	case kdump.Snappy:
		b.Write(snappy.Encode(nil, page))
	case kdump.Zstd:
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		b.Write(w.EncodeAll(page, nil))
	default:
		b.Write(page)
	}
	return b.Bytes()
}

var methods = []uint32{kdump.Raw, kdump.Zlib, kdump.LZO, kdump.Snappy, kdump.Zstd}

func TestInflate(t *testing.T) {
	page := bytes.Repeat([]byte("0123456789abcdef"), 4096/16)
	twice, half := append(bytes.Clone(page), page...), page[:2048]
	bomb := make([]byte, 64<<20)
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
		{"zlib", deflate(page, kdump.Zlib), kdump.Zlib, ""},
		{"lzo", deflate(page, kdump.LZO), kdump.LZO, ""},
		{"snappy", deflate(page, kdump.Snappy), kdump.Snappy, ""},
		{"zstd", deflate(page, kdump.Zstd), kdump.Zstd, ""},
		{"uncompressed, half", half, kdump.Raw, "0x800 bytes, expected a page of 0x1000"},
		{"zlib, half", deflate(half, kdump.Zlib), kdump.Zlib, "zlib: unexpected EOF"},
		{"lzo, half", deflate(half, kdump.LZO), kdump.LZO, "0x800 bytes, expected a page of 0x1000"},
		{"snappy, half", deflate(half, kdump.Snappy), kdump.Snappy, "0x800 bytes, expected a page of 0x1000"},
		{"zstd, half", deflate(half, kdump.Zstd), kdump.Zstd, "0x800 bytes, expected a page of 0x1000"},
		{"zlib, twice as much", deflate(twice, kdump.Zlib), kdump.Zlib, "0x1001 bytes, expected a page of 0x1000"},
		{"lzo, twice as much", deflate(twice, kdump.LZO), kdump.LZO, "output overrun"},
		{"snappy, twice as much", deflate(twice, kdump.Snappy), kdump.Snappy, "0x2000 bytes, expected a page of 0x1000"},
		{"zstd, twice as much", deflate(twice, kdump.Zstd), kdump.Zstd, "zstd: "},
		{"zlib bomb", deflate(bomb, kdump.Zlib), kdump.Zlib, "0x1001 bytes, expected a page of 0x1000"},
		{"snappy bomb", deflate(bomb, kdump.Snappy), kdump.Snappy, "0x4000000 bytes, expected a page of 0x1000"},
		{"zstd bomb", deflate(bomb, kdump.Zstd), kdump.Zstd, "zstd: "},
		{"zstd bomb that keeps its size to itself", streamed.Bytes(), kdump.Zstd, "zstd: "},
		{"zlib, checksum wrong", append(deflate(page, kdump.Zlib)[:len(deflate(page, kdump.Zlib))-1], 0xff), kdump.Zlib, "invalid checksum"},
		{"zlib, cut", deflate(page, kdump.Zlib)[:10], kdump.Zlib, "unexpected EOF"},
		{"lzo, cut", deflate(page, kdump.LZO)[:20], kdump.LZO, "lzo: "},
		{"snappy, cut", deflate(page, kdump.Snappy)[:20], kdump.Snappy, "snappy: "},
		{"zstd, cut", deflate(page, kdump.Zstd)[:20], kdump.Zstd, "zstd: "},
		{"zlib, nothing", nil, kdump.Zlib, "EOF"},
		{"zstd, nothing", nil, kdump.Zstd, "0x0 bytes"},
		{"two methods", page, kdump.Zlib | kdump.LZO, "flags 0x3 say more than one compression"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &kdump.Codec{}
			for range 2 { // a codec used before, too
				got := make([]byte, 4096)
				before := allocated()
				err := c.Inflate(got, tc.src, tc.flags)
				if n := allocated() - before; n > 1<<20 {
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

// TestInflatePanics: what a decompressor does to hostile bytes is its own affair.
func TestInflatePanics(t *testing.T) {
	c := &kdump.Codec{Zlib: brokenReader{}}
	if err := c.Inflate(make([]byte, 4096), make([]byte, 10), kdump.Zlib); err == nil || !strings.Contains(err.Error(), "the decompressor fails: index") {
		t.Errorf("error is %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read(p []byte) (int, error)        { panic("index out of range") }
func (brokenReader) Close() error                      { return nil }
func (brokenReader) Reset(r io.Reader, _ []byte) error { return nil }

func FuzzInflate(f *testing.F) {
	page := bytes.Repeat([]byte("0123456789abcdef"), 4096/16)
	for _, m := range methods[1:] {
		f.Add(deflate(page, m), m)
	}
	f.Fuzz(func(t *testing.T, src []byte, flags uint32) {
		before := allocated()
		(&kdump.Codec{}).Inflate(make([]byte, 4096), src, flags)
		if n := allocated() - before; n > 2<<20 {
			t.Errorf("%d bytes allocated", n)
		}
	})
}
