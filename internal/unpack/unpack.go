// Package unpack undoes the compression of files: gzip, bzip2 and zstd in
// process, the others by their programs.
package unpack

import (
	"bufio"
	"compress/bzip2"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"
)

// maxWindow bounds what the zstd decoder keeps: the window of zstd --long,
// which is the most that zstd -d accepts unasked.
const maxWindow = 128 << 20

// programs are shell commands that unpack their standard input.
var programs = map[string]string{
	"xz":   "xz -dc",
	"lzma": "xz -dc",
	"lz4":  "lz4 -dc",
	"lzo":  "lzop -dc",
}

// Known reports whether NewReader knows the compression.
func Known(compression string) bool {
	switch compression {
	case "gzip", "bzip2", "zstd":
		return true
	}
	return programs[compression] != ""
}

// NewReader returns what r holds in a compression: gzip, bzip2, zstd, xz, lzma,
// lz4 or lzo. Data that is cut off ends with [io.ErrUnexpectedEOF], if the
// compression tells. Close does not close r.
func NewReader(compression string, r io.Reader) (io.ReadCloser, error) {
	switch compression {
	case "gzip":
		g, err := newGzip(r)
		return g, errors.Wrap(err, compression)
	case "bzip2":
		return io.NopCloser(named{compression, bzip2.NewReader(r)}), nil
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errors.Wrap(err, compression)
		}
		return zstdReader{named{compression, d}, d}, nil
	}
	command := programs[compression]
	if command == "" {
		return nil, errors.Errorf("no unpacker for %q", compression)
	}
	program, _, _ := strings.Cut(command, " ")
	return RunScript(program, command, r)
}

// named names the compression in errors.
type named struct {
	name string
	io.Reader
}

func (n named) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.Wrap(err, n.name)
	}
	return k, err
}

type zstdReader struct {
	named
	d *zstd.Decoder
}

func (z zstdReader) Close() error {
	z.d.Close()
	return nil
}

// A gzipReader reads the members of a gzip file, one after another. As gzip(1)
// and the kernel do, it ignores zeros after the last one.
type gzipReader struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGzip(r io.Reader) (*gzipReader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{in, z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, errors.Wrap(err, "gzip")
		}
		if err := g.next(); err != nil {
			return 0, err
		}
	}
}

// next begins the next member.
func (g *gzipReader) next() error {
	for {
		b, err := g.in.Peek(1)
		if err != nil {
			return err
		}
		if b[0] != 0 {
			break
		}
		g.in.Discard(1)
	}
	if err := g.z.Reset(g.in); err != nil {
		return errors.Wrap(err, "gzip, after its first part")
	}
	g.z.Multistream(false)
	return nil
}

func (g *gzipReader) Close() error { return g.z.Close() }
