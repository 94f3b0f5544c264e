package vmcore

import (
	"context"
	"io"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// maxCopy bounds what copy_file_range copies at once, so that a signal is heeded.
const maxCopy = 4 << 20

// A copier copies ranges from one file to another, or within one: it shares
// blocks where the file system can, and keeps holes.
type copier struct {
	ctx       context.Context
	dst, src  *os.File
	mustClone bool // fail rather than copy whole blocks
	noHoles   bool // write zeros where src has holes
	durable   bool // the caller is going to sync: let the disk begin meanwhile
	progress  func(int64)

	noClone  bool
	noKernel bool
	buf      []byte
}

// layout writes all of l to dst, a new file.
func (c *copier) layout(l *Layout) error {
	c.buf = make([]byte, bufSize)
	if err := c.dst.Truncate(l.Size); err != nil {
		return err
	}
	at := int64(0)
	for p := range l.all() {
		var err error
		switch {
		case len(p.lit) > 0:
			_, err = c.dst.WriteAt(p.lit, at)
		case p.mend != nil:
			w := io.NewOffsetWriter(c.dst, at)
			s := streamer{ctx: c.ctx, w: w, r: io.NewSectionReader(c.src, p.src, p.n), in: p.src, buf: c.buf}
			err = noEOF(s.piece(p))
		case p.n > 0:
			err = c.copyRange(at, p.src, p.n)
		}
		if err != nil {
			return err
		}
		at += p.size()
	}
	return nil
}

// copyRange copies n bytes from offset from of src to offset off of dst, which
// reads as zeros there unless noHoles is set.
func (c *copier) copyRange(off, from, n int64) error {
	if first := roundUp(from, pageSize) - from; (off-from)%pageSize == 0 && n-first >= pageSize && !c.noClone {
		whole := (n - first) &^ (pageSize - 1)
		err := cloneRange(c.dst, c.src, off+first, from+first, whole)
		if err == nil {
			c.progress(whole)
			if err := c.copyData(off, from, first); err != nil {
				return err
			}
			done := first + whole
			return c.copyData(off+done, from+done, n-done)
		}
		if c.mustClone {
			return errors.Wrap(err, "share blocks")
		}
		c.noClone = true
	}
	return c.copyData(off, from, n)
}

// copyData copies byte by byte what is no hole.
func (c *copier) copyData(off, from, n int64) error {
	if c.buf == nil {
		c.buf = make([]byte, bufSize)
	}
	shift := off - from
	for end := from + n; from < end; {
		data, hole := from, end
		if !c.noHoles {
			data, hole = nextData(c.src, from, end)
		}
		c.progress(data - from)
		for from = data; from < hole; {
			if c.ctx.Err() != nil {
				return context.Cause(c.ctx)
			}
			n, err := c.copySome(from+shift, from, hole-from)
			if err != nil {
				return err
			}
			if c.durable { // a hint, so an error does not matter
				unix.SyncFileRange(int(c.dst.Fd()), from+shift, n, unix.SYNC_FILE_RANGE_WRITE)
			}
			from += n
			c.progress(n)
		}
	}
	return nil
}

// copySome copies up to n bytes, in the kernel where it can.
func (c *copier) copySome(off, from, n int64) (int64, error) {
	if !c.noKernel {
		k, err := unix.CopyFileRange(int(c.src.Fd()), &from, int(c.dst.Fd()), &off, int(min(n, maxCopy)), 0)
		if err == nil && k > 0 {
			return int64(k), nil
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EDQUOT) {
			return 0, err
		}
		c.noKernel = true // not between these files; or the file's end, which ReadAt finds
	}
	b := c.buf[:min(int64(len(c.buf)), n)]
	if k, err := c.src.ReadAt(b, from); k < len(b) {
		return 0, errors.Wrapf(noEOF(err), "read at %#x", from+int64(k))
	}
	_, err := c.dst.WriteAt(b, off)
	return int64(len(b)), err
}

// nextData returns where the next data from off on begins and ends, at most
// end. All is data where the file system does not tell.
func nextData(f *os.File, off, end int64) (data, hole int64) {
	data, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // no more data; at the file's end, too
		if size, err := f.Seek(0, io.SeekEnd); err == nil && size >= end {
			return end, end
		}
		return off, end
	}
	if err != nil {
		return off, end
	}
	hole, err = f.Seek(data, unix.SEEK_HOLE)
	if err != nil {
		hole = end
	}
	return min(data, end), min(hole, end)
}

// cloneRange makes n bytes of dst share the blocks of src. Offsets and n must
// be multiples of the file system's block size.
func cloneRange(dst, src *os.File, off, from, n int64) error {
	return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd:      int64(src.Fd()),
		Src_offset:  uint64(from),
		Src_length:  uint64(n),
		Dest_offset: uint64(off),
	})
}
