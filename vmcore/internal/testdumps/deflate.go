package testdumps

import (
	"bytes"
	"compress/zlib"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"vmcsnote/vmcore/internal/kdump"
)

// Deflate compresses a page. For lzo it must be 16 bytes over and over: there
// is no LZO compressor in Go.
func Deflate(page []byte, flags uint32) []byte {
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
		b.Write(encoder.EncodeAll(page, nil))
	default:
		b.Write(page)
	}
	return b.Bytes()
}

// encoder is one for all pages: to make one costs more than a page.
var encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))

// Methods are those by which pages may be compressed.
var Methods = []uint32{kdump.Raw, kdump.Zlib, kdump.LZO, kdump.Snappy, kdump.Zstd}
