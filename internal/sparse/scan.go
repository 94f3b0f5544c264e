package sparse

import (
	"io"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// scanBuffer is how much Scan reads at a time, in bytes: a multiple of BlockSize.
const scanBuffer = 256 * BlockSize

// Scan reads the regular file f into an image. It asks the file system where
// the data is (SEEK_DATA) and never reads a hole, so its time depends on what
// was written, not on the size. It moves f's file offset.
func Scan(f *os.File) (*Image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, errors.WithStack(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.Errorf("%s: found %v, expected a regular file", f.Name(), info.Mode().Type())
	}
	im := &Image{size: info.Size()}
	buf := make([]byte, min(scanBuffer, im.size))
	for off := int64(0); off < im.size; {
		start, end, err := nextData(f, off, im.size)
		if err != nil {
			return nil, errors.WithStack(err)
		}
		for off = start; off < end; {
			b := buf[:min(scanBuffer, end-off)]
			if _, err := io.ReadFull(io.NewSectionReader(f, off, int64(len(b))), b); err != nil {
				return nil, errors.Wrapf(err, "%s: %d bytes at offset %#x", f.Name(), len(b), off)
			}
			if err := im.add(off, b); err != nil {
				return nil, errors.Wrap(err, f.Name())
			}
			off += int64(len(b))
		}
	}
	return im, nil
}

// nextData returns where the first data at or after off begins and ends, both
// rounded outwards to blocks (a file system's own blocks may be smaller) but
// not past size. Both are size where no data is left.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	data, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // nothing but a hole up to the end
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	hole, err := f.Seek(data, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	start, end = data-data%BlockSize, size
	if hole <= size-BlockSize { // else rounding up would pass the end
		end = hole + (BlockSize-hole%BlockSize)%BlockSize
	}
	return min(start, size), end, nil
}
