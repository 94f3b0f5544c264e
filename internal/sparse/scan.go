package sparse

import (
	"io"
	"os"

	"github.com/pkg/errors"

	"vmcsnote/internal/atomicfile"
)

// scanBuffer is how much Scan reads at a time, in bytes: a multiple of
// blockSize.
const scanBuffer = 256 * blockSize

// Scan reads the regular file f into an image. It asks the file system where
// the data is (SEEK_DATA) and reads only blocks that have some, so its time
// depends on what was written, not on the size. It moves f's file offset.
func Scan(f *os.File) (*Image, error) {
	im := &Image{}
	var err error
	im.size, err = scan(f, func(off int64, b []byte) error { return errors.Wrap(im.add(off, b), f.Name()) })
	if err != nil {
		return nil, err
	}
	return im, nil
}

// DiffFile is [Diff] for the regular file f. As long as there is no difference
// it keeps nothing of the file.
func DiffFile(f *os.File, want *Image) (*Difference, error) {
	var got Image // only what has just been read
	at := int64(0)
	size, err := scan(f, func(off int64, b []byte) error {
		got = Image{size: off + int64(len(b)), extents: []extent{{off, b}}}
		if at = differ(&got, want, at, min(got.size, want.size)); at < got.size {
			return errDiffers
		}
		return nil
	})
	if err == nil {
		got = Image{size: size}
		if end := min(size, want.size); size != want.size || differ(&got, want, at, end) < end {
			err = errDiffers
		}
	}
	if err != errDiffers {
		return nil, err
	}
	im, err := Scan(f)
	if err != nil {
		return nil, err
	}
	return Diff(im, want), nil
}

var errDiffers = errors.New("the file differs")

// scan calls look with each piece of the regular file f that is no hole, in
// whole blocks: a file system's own may be smaller. It returns the file's size.
// The bytes are valid until look returns.
func scan(f *os.File, look func(off int64, b []byte) error) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, errors.WithStack(err)
	}
	if !info.Mode().IsRegular() {
		return 0, errors.Errorf("%s: found %v, expected a regular file", f.Name(), info.Mode().Type())
	}
	size = info.Size()
	buf := make([]byte, min(scanBuffer, size))
	for off := int64(0); off < size; {
		data, end := atomicfile.NextData(f, off, size)
		if end <= size-blockSize { // otherwise rounding up would pass the end
			end += -end & (blockSize - 1)
		} else {
			end = size
		}
		for off = data - data%blockSize; off < end; {
			b := buf[:min(scanBuffer, end-off)]
			if _, err := io.ReadFull(io.NewSectionReader(f, off, int64(len(b))), b); err != nil {
				return 0, errors.Wrapf(err, "%s: %d bytes at offset %#x", f.Name(), len(b), off)
			}
			if err := look(off, b); err != nil {
				return 0, err
			}
			off += int64(len(b))
		}
	}
	return size, nil
}
