// Package sparse keeps mostly empty files small: a core of 423 MB of which 24
// KB were written ships as a few KB.
//
// A packed file is a gzip stream (no name, no time: the same file packs to the
// same bytes) of
//
//	offset  size  what
//	0       8     "sparse1\n"
//	8       8     size of the file in bytes
//	16      -     records
//
// and a record is
//
//	0       8     offset in the file, a multiple of blockSize
//	8       8     length in bytes, a multiple of blockSize unless the record ends the file
//	16      -     the bytes
//
// All numbers are little endian. Records ascend and do not touch; a record
// {size of the file, 0} ends them. What no record holds is zero. Every file has
// one such description only, but for blocks of zeros inside a record, which
// [Scan] never makes.
//
// An [Image] is a file in that form, in memory; [Pack] and [Unpack] are the two
// ways between it and a real file.
package sparse

import (
	"io"
	"os"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

const (
	// blockSize is the unit, in bytes, in which contents are kept or left out.
	blockSize = 4096
	// maxData bounds the bytes that records may hold in all, so that a small
	// stream cannot fill memory or disk.
	maxData = 64 << 20
)

// errTooMuchData says that a file or a stream holds more than maxData bytes
// that are not zero.
var errTooMuchData = errors.Errorf("more than %d MiB of data", maxData>>20)

// Pack writes f's contents to w. It moves f's file offset.
func Pack(w io.Writer, f *os.File) error {
	im, err := Scan(f)
	if err != nil {
		return err
	}
	return im.Save(w)
}

// Image is the contents of a sparse file. The zero Image is an empty file.
type Image struct {
	size    int64
	data    int64    // bytes in all extents
	extents []extent // ascending, not touching, at multiples of blockSize
}

// extent is a run of bytes in a file, never empty.
type extent struct {
	off  int64
	data []byte
}

func (e extent) end() int64 { return e.off + int64(len(e.data)) }

// New returns the image of a file that holds b. It keeps no part of b.
func New(b []byte) (*Image, error) {
	im := &Image{size: int64(len(b))}
	if err := im.add(0, b); err != nil {
		return nil, err
	}
	return im, nil
}

// Size returns the file's size in bytes.
func (im *Image) Size() int64 { return im.size }

// Data returns how many bytes of the file are kept; all others are zero.
func (im *Image) Data() int64 { return im.data }

// NextData returns where between off and end the next extent begins, and where
// that ends: both are end if there is none.
func (im *Image) NextData(off, end int64) (from, to int64) {
	for off < min(end, im.size) {
		data, n := im.run(off)
		if data != nil {
			return off, min(off+n, end)
		}
		off += n
	}
	return end, end
}

// ReadAt implements [io.ReaderAt]: bytes that no extent holds are zero.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.Errorf("read at negative offset %d", off)
	}
	n := 0
	for n < len(p) && off < im.size {
		data, run := im.run(off)
		part := p[n:min(int64(len(p)), int64(n)+run)]
		if data != nil {
			copy(part, data)
		} else {
			clear(part)
		}
		n += len(part)
		off += int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Expand writes the image to f, which it empties first, leaving holes where no
// extent is.
func (im *Image) Expand(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return errors.WithStack(err)
	}
	if err := f.Truncate(im.size); err != nil {
		return errors.WithStack(err)
	}
	for _, e := range im.extents {
		if _, err := f.WriteAt(e.data, e.off); err != nil {
			return errors.Wrapf(err, "%d bytes at offset %#x", len(e.data), e.off)
		}
	}
	return nil
}

// run returns the data at off, which lies below the size, up to the end of its
// extent; or nil and the length of the hole there.
func (im *Image) run(off int64) ([]byte, int64) {
	i, found := slices.BinarySearchFunc(im.extents, off, func(e extent, off int64) int {
		switch {
		case e.end() <= off:
			return -1
		case e.off > off:
			return 1
		}
		return 0
	})
	if found {
		data := im.extents[i].data[off-im.extents[i].off:]
		return data, int64(len(data))
	}
	if i < len(im.extents) {
		return nil, im.extents[i].off - off
	}
	return nil, im.size - off
}

// add keeps those blocks of b that are not zero. It goes to offset off, a
// multiple of blockSize not below the last extent's end, and is a number of
// whole blocks or ends the file.
func (im *Image) add(off int64, b []byte) error {
	for len(b) > 0 {
		n := blocks(b, false) // zeros
		off, b = off+int64(n), b[n:]
		n = blocks(b, true)
		if im.data += int64(n); im.data > maxData {
			return errTooMuchData
		}
		switch last := len(im.extents) - 1; {
		case n == 0:
		case last >= 0 && im.extents[last].end() == off:
			im.extents[last].data = append(im.extents[last].data, b[:n]...)
		default:
			im.extents = append(im.extents, extent{off, slices.Clone(b[:n])})
		}
		off, b = off+int64(n), b[n:]
	}
	return nil
}

// blocks returns how many bytes of b the first blocks are that hold data, or
// that are all zero.
func blocks(b []byte, data bool) int {
	n := 0
	for block := range slices.Chunk(b, blockSize) {
		if physmem.AllZero(block) == data {
			break
		}
		n += len(block)
	}
	return n
}
