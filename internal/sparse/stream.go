package sparse

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math"

	"github.com/pkg/errors"
)

const magic = "sparse1\n"

// record is what precedes the bytes of an extent in a stream.
type record struct {
	Off, Len uint64
}

// Save writes the image to w, compressed.
func (im *Image) Save(w io.Writer) error {
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return errors.WithStack(err)
	}
	if err := im.encode(zw); err != nil {
		return errors.WithStack(err)
	}
	return errors.WithStack(zw.Close())
}

// Load reads an image that [Image.Save] wrote. It accepts nothing after its
// end.
func Load(r io.Reader) (*Image, error) {
	zr, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, errors.Wrap(err, "not a packed file")
	}
	return decode(zr)
}

func (im *Image) encode(w io.Writer) error {
	head := binary.LittleEndian.AppendUint64([]byte(magic), uint64(im.size))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, e := range im.extents {
		if err := binary.Write(w, binary.LittleEndian, record{uint64(e.off), uint64(len(e.data))}); err != nil {
			return err
		}
		if _, err := w.Write(e.data); err != nil {
			return err
		}
	}
	return binary.Write(w, binary.LittleEndian, record{uint64(im.size), 0})
}

func decode(r io.Reader) (*Image, error) {
	var head struct {
		Magic [len(magic)]byte
		Size  uint64
	}
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil {
		return nil, errors.Wrap(unexpected(err), "packed file's header")
	}
	if string(head.Magic[:]) != magic {
		return nil, errors.Errorf("not a packed file: found %q, expected %q", head.Magic, magic)
	}
	if head.Size > math.MaxInt64 {
		return nil, errors.Errorf("size %#x of the file: expected at most %#x", head.Size, int64(math.MaxInt64))
	}
	im := &Image{size: int64(head.Size)}
	for {
		var rec record
		if err := binary.Read(r, binary.LittleEndian, &rec); err != nil {
			return nil, errors.Wrapf(unexpected(err), "header of record %d", len(im.extents))
		}
		if rec == (record{head.Size, 0}) {
			break
		}
		if err := im.read(r, rec); err != nil {
			return nil, errors.Wrapf(err, "record %d, offset %#x, length %#x", len(im.extents), rec.Off, rec.Len)
		}
	}
	// Reading up to the end also makes gzip check its sum.
	switch n, err := io.CopyN(io.Discard, r, 1); {
	case n > 0:
		return nil, errors.New("data after the last record")
	case err != io.EOF:
		return nil, errors.WithStack(err)
	}
	return im, nil
}

// read reads the bytes of one record and appends them as an extent.
func (im *Image) read(r io.Reader, rec record) error {
	size, next := uint64(im.size), uint64(0)
	if n := len(im.extents); n > 0 {
		next = uint64(im.extents[n-1].end()) + 1
	}
	switch {
	case rec.Len == 0:
		return errors.Errorf("empty, and not the last record at %#x", size)
	case rec.Off < next:
		return errors.Errorf("touches or precedes the record before: expected an offset of %#x or more", next)
	case rec.Off > size || rec.Len > size-rec.Off:
		return errors.Errorf("reaches past the file's end at %#x", size)
	case rec.Off%blockSize != 0 || rec.Len%blockSize != 0 && rec.Off+rec.Len != size:
		return errors.Errorf("not a number of whole %d-byte blocks", blockSize)
	case rec.Len > maxData-uint64(im.data):
		return errTooMuchData
	}
	var data bytes.Buffer // grows as bytes arrive, not on the record's word alone
	data.Grow(int(min(rec.Len, 1<<20)) + bytes.MinRead)
	if _, err := io.CopyN(&data, r, int64(rec.Len)); err != nil {
		return unexpected(err)
	}
	im.data += int64(rec.Len)
	im.extents = append(im.extents, extent{int64(rec.Off), data.Bytes()})
	return nil
}

// unexpected turns an end of file into one that nobody takes for a success.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
