package kdump

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"

	"vmcsnote/internal/lzo"
)

// How a page is compressed: flags of its descriptor (DUMP_DH_COMPRESSED_...).
const (
	Raw    = 0
	Zlib   = 0x1
	LZO    = 0x2  // makedumpfile 1.4.4
	Snappy = 0x4  // makedumpfile 1.5.1
	Zstd   = 0x20 // makedumpfile 1.7.0

	compressed = Zlib | LZO | Snappy | Zstd
)

// A Codec inflates pages, one at a time. It keeps what the decompressors
// allocate.
type Codec struct {
	src  bytes.Reader
	Zlib io.ReadCloser
	zstd *zstd.Decoder
}

// Inflate fills page with what src holds, compressed as flags say. It is an
// error if that is less than the page, or more: nothing beyond the page is ever
// inflated.
func (c *Codec) Inflate(page, src []byte, flags uint32) (err error) {
	// Decompressors index into hostile bytes; one that gets it wrong must not
	// crash the reader of a damaged dump.
	defer func() {
		if r := recover(); r != nil {
			err = errors.Errorf("the decompressor fails: %v", r)
		}
	}()
	n := 0
	method := ""
	switch flags & compressed {
	case Raw:
		method = "uncompressed"
		n = len(src)
		copy(page, src)
	case Zlib:
		method = "zlib"
		n, err = c.inflateZlib(page, src)
	case LZO:
		method = "lzo"
		n, err = lzo.Decompress(page, src)
	case Snappy:
		method = "snappy"
		if n, err = snappy.DecodedLen(src); err == nil && n == len(page) {
			_, err = snappy.Decode(page, src)
		}
	case Zstd:
		method = "zstd"
		n, err = c.inflateZstd(page, src)
	default:
		return errors.Errorf("flags %#x name more than one compression", flags)
	}
	if err == nil && n != len(page) {
		err = fmt.Errorf("%#x bytes, expected a page of %#x", n, len(page))
	}
	return errors.Wrap(err, method)
}

func (c *Codec) inflateZlib(page, src []byte) (n int, err error) {
	c.src.Reset(src)
	if c.Zlib == nil {
		c.Zlib, err = zlib.NewReader(&c.src)
	} else {
		err = c.Zlib.(zlib.Resetter).Reset(&c.src, nil)
	}
	if err != nil {
		return 0, err
	}
	if n, err = io.ReadFull(c.Zlib, page); err != nil {
		return n, err
	}
	// The end must follow, and the checksum with it.
	var more [1]byte
	k, err := io.ReadFull(c.Zlib, more[:])
	if err == io.EOF {
		err = nil
	}
	return n + k, err
}

func (c *Codec) inflateZstd(page, src []byte) (n int, err error) {
	if c.zstd == nil {
		c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
		if err != nil {
			return 0, err
		}
	}
	out, err := c.zstd.DecodeAll(src, page[:0:len(page)])
	return len(out), err
}
