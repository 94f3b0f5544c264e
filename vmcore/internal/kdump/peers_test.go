package kdump_test

import (
	"bytes"
	"compress/zlib"
	"io"
	"testing"
	"time"

	"github.com/anchore/go-lzo"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestLZOPages: pages of a real dump are what another decompressor makes of
// them.
func TestLZOPages(t *testing.T) {
	pages := compressedPages(t, "lzo", kdump.LZO)
	if len(pages) < 500 {
		t.Fatalf("only %d pages", len(pages))
	}
	for i, src := range pages {
		sameLZO(t, src)
		if n, err := lzo.Decompress(src, make([]byte, 4096)); err != nil || n != 4096 {
			t.Fatalf("page %d: %d bytes, %v: this proves nothing", i, n, err)
		}
	}
}

// FuzzLZO: whatever the bytes are, both decompressors make the same of them.
func FuzzLZO(f *testing.F) {
	for i, src := range compressedPages(f, "lzo", kdump.LZO) {
		if i%100 == 0 {
			f.Add(src)
		}
	}
	f.Add(testdumps.Deflate(make([]byte, 4096), kdump.LZO))
	for _, s := range []string{"", "\x11\x00\x00", "\x16abcde\x11\x00\x00", "\x13ab\x00\x00\x11\x00\x00", "\x15abcd\x20\x00\x00\x00\x00\x00\x11\x00\x00", "\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) { sameLZO(t, src) })
}

// sameLZO compares the two decompressors, for pages of several sizes.
func sameLZO(t *testing.T, src []byte) {
	t.Helper()
	for _, size := range []int{4096, 65536, 20, 3} {
		got, want := make([]byte, size), make([]byte, size)
		n, werr := lzo.Decompress(src, want)
		err := (&kdump.Codec{}).Inflate(got, src, kdump.LZO)
		if ok := werr == nil && n == size; ok != (err == nil) || ok && !bytes.Equal(got, want) {
			t.Fatalf("%x, page of %d: %v; the other returns %d, %v; the bytes are the same: %v", src, size, err, n, werr, bytes.Equal(got, want))
		}
	}
}

// compressedPages returns the compressed pages of a dump by makedumpfile.
func compressedPages(t testing.TB, how string, flag uint32) (pages [][]byte) {
	t.Helper()
	im := testcores.Image(t, "kdump/cloud-c1.kdump-"+how)
	c, err := kdump.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	read := func(e plan.Extent) []byte {
		b := make([]byte, e.Size)
		if _, err := io.ReadFull(io.NewSectionReader(im, int64(e.Off), int64(e.Size)), b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	at, end := uint64(c.Pages().Descs), uint64(im.Size())
	for ; at+plan.DescSize <= end; at += plan.DescSize {
		d := read(plan.Extent{Off: at, Size: plan.DescSize})
		data := c.Desc(d).Data
		end = min(end, data.Off)
		if c.Order.Uint32(d[12:]) == flag {
			pages = append(pages, read(data))
		}
	}
	return pages
}

// BenchmarkInflate is where doc/performance.md has its figures from.
func BenchmarkInflate(b *testing.B) {
	codec := &kdump.Codec{}
	inflate := func(flag uint32) func(page, src []byte) error {
		return func(page, src []byte) error { return codec.Inflate(page, src, flag) }
	}
	for _, bb := range []struct {
		name, how string
		flag      uint32
		inflate   func(page, src []byte) error
	}{
		{"zlib", "zlib", kdump.Zlib, inflate(kdump.Zlib)},
		{"zlib, standard library", "zlib", kdump.Zlib, standardZlib()},
		{"lzo", "lzo", kdump.LZO, inflate(kdump.LZO)},
		{"lzo, anchore", "lzo", kdump.LZO, func(page, src []byte) error { _, err := lzo.Decompress(src, page); return err }},
		{"snappy", "snappy", kdump.Snappy, inflate(kdump.Snappy)},
		{"zstd", "zstd", kdump.Zstd, inflate(kdump.Zstd)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			pages := compressedPages(b, bb.how, bb.flag)
			page := make([]byte, 4096)
			n, start := 0, cpuTime(b)
			for b.Loop() {
				n += len(pages) * len(page)
				for _, src := range pages {
					if err := bb.inflate(page, src); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)/1e6/(cpuTime(b)-start).Seconds(), "MB/CPU-s")
		})
	}
}

// cpuTime returns how long the process has run on a CPU: others may be busy.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// standardZlib returns a function that inflates by the standard library.
func standardZlib() func(page, src []byte) error {
	var r bytes.Reader
	var z io.ReadCloser
	return func(page, src []byte) (err error) {
		r.Reset(src)
		if z == nil {
			z, err = zlib.NewReader(&r)
		} else {
			err = z.(zlib.Resetter).Reset(&r, nil)
		}
		if err == nil {
			_, err = io.ReadFull(z, page)
		}
		return err
	}
}
