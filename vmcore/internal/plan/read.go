package plan

import (
	"io"

	"github.com/pkg/errors"
)

// Zeros returns how many bytes of r from off on, up to stop, are zero or equal
// to will. A stream may end before stop; a file must not.
func Zeros(r io.ReaderAt, size, off, stop int64, will []byte) (int64, error) {
	buf := make([]byte, min(max(stop-off, 0), 64<<10))
	for at := off; at < stop; {
		b := buf[:min(int64(len(buf)), stop-at)]
		n, err := r.ReadAt(b, at)
		if n < len(b) {
			if size != Endless || !errors.Is(err, io.EOF) {
				return 0, errors.Wrapf(NoEOF(err), "room after the notes, offset %#x", at)
			}
			b, stop = b[:n], at+int64(n)
		}
		for i, v := range b {
			pos := at - off + int64(i)
			if v != 0 && (pos >= int64(len(will)) || v != will[pos]) {
				return pos, nil
			}
		}
		at += int64(n)
	}
	return max(stop-off, 0), nil
}

// ReadFull fills b from offset off. The caller has looked at the file's size:
// if the file ends before, the error wraps [ErrChanged].
func ReadFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return errors.Wrapf(NoEOF(err), "offset %#x", off+int64(n))
}

// HasAt reports whether r holds the bytes of magic at off.
func HasAt(r io.ReaderAt, off int64, magic string) bool {
	b := make([]byte, len(magic))
	n, _ := r.ReadAt(b, off)
	return n == len(b) && string(b) == magic
}

// NoEOF turns an unexpected end of the file into [ErrChanged].
func NoEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrChanged
	}
	return err
}
