package atomicfile

import (
	"context"
	"io"
	"os"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const (
	bufSize = 256 << 10
	// pageSize is the unit in which blocks are shared; blocks are no larger.
	pageSize = 4096
	// folioSize is that of the page cache's large folios for which a shift costs
	// nothing.
	folioSize = 64 << 10
)

// maxCopy bounds what copy_file_range copies at once, so that a signal is
// heeded.
const maxCopy = 4 << 20

// writeBehind is how much is copied before the disk is asked to begin: a call
// takes a millisecond, however little there is to write. A long range has a
// call for each part that is copied at once.
const writeBehind = maxCopy

// A Copier copies ranges from one file to another, or within one: it shares
// blocks where the file system can, and keeps holes.
type Copier struct {
	Ctx       context.Context
	Dst, Src  *os.File
	MustClone bool // fail rather than copy whole blocks
	NoHoles   bool // write zeros where src has holes
	Durable   bool // the caller is going to sync: let the disk begin meanwhile
	Progress  func(int64)

	due      int64 // bytes copied that the disk was not asked to write yet,
	dueFrom  int64 // and where they begin in dst
	noClone  bool
	noKernel bool
	byPage   bool // the kernel copies page by page
	buf      []byte
	hint     func(off, n int64) // in place of sync_file_range, for a test
}

// CopyRange copies n bytes from offset from of src to offset off of dst, which
// reads as zeros there unless NoHoles is set.
func (c *Copier) CopyRange(off, from, n int64) error {
	if first := -from & (pageSize - 1); (off-from)%pageSize == 0 && n-first >= pageSize && !c.noClone {
		whole := (n - first) &^ (pageSize - 1)
		err := CloneRange(c.Dst, c.Src, off+first, from+first, whole)
		if err == nil {
			c.Progress(whole)
			if err := c.copyData(off, from, first); err != nil {
				return err
			}
			done := first + whole
			return c.copyData(off+done, from+done, n-done)
		}
		if c.MustClone {
			return errors.Wrap(err, "share blocks")
		}
		c.noClone = true
	}
	return c.copyData(off, from, n)
}

// copyData copies what is not a hole, byte by byte.
func (c *Copier) copyData(off, from, n int64) error {
	if c.buf == nil {
		c.buf = make([]byte, bufSize)
		var fs unix.Statfs_t
		c.byPage = unix.Fstatfs(int(c.Dst.Fd()), &fs) == nil && fs.Type == unix.EXT4_SUPER_MAGIC
	}
	shift := off - from
	for end := from + n; from < end; {
		data, hole := from, end
		if !c.NoHoles {
			data, hole = NextData(c.Src, from, end)
		}
		c.Progress(data - from)
		for from = data; from < hole; {
			if c.Ctx.Err() != nil {
				return context.Cause(c.Ctx)
			}
			n, err := c.copySome(from+shift, from, hole-from)
			if err != nil {
				return err
			}
			c.begin(from+shift, n)
			from += n
			c.Progress(n)
		}
	}
	return nil
}

// begin lets the disk begin to write, once enough is due. The n bytes at off
// have been copied.
func (c *Copier) begin(off, n int64) {
	if c.due == 0 {
		c.dueFrom = off
	}
	c.due += n
	if !c.Durable || c.due < writeBehind {
		return
	}
	hint := c.hint
	if hint == nil {
		hint = func(off, n int64) { // an error does not matter
			unix.SyncFileRange(int(c.Dst.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
		}
	}
	hint(c.dueFrom, off+n-c.dueFrom)
	c.due = 0
}

// copySome copies up to n bytes, in the kernel where it can. ext4 does not copy
// by itself; the kernel moves page by page there, which takes longer than a
// read and a write unless the page cache's large folios are as far apart as the
// bytes. A network file system copies without sending the bytes.
func (c *Copier) copySome(off, from, n int64) (int64, error) {
	if !c.noKernel && (!c.byPage || (off-from)%folioSize == 0) {
		k, err := unix.CopyFileRange(int(c.Src.Fd()), &from, int(c.Dst.Fd()), &off, int(min(n, maxCopy)), 0)
		if err == nil && k > 0 {
			return int64(k), nil
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EDQUOT) {
			return 0, err
		}
		c.noKernel = true // not between these files; or the file's end, which ReadAt finds
	}
	b := c.buf[:min(int64(len(c.buf)), n)]
	if k, err := c.Src.ReadAt(b, from); k < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the file should be longer
		}
		return 0, errors.Wrapf(err, "read at %#x", from+int64(k))
	}
	_, err := c.Dst.WriteAt(b, off)
	return int64(len(b)), err
}

// NextData returns where the next data from off on begins and ends, at most
// end. All is data where the file system does not tell.
func NextData(f *os.File, off, end int64) (data, hole int64) {
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

// CloneRange makes n bytes of dst share the blocks of src. Offsets and n must
// be multiples of the file system's block size.
func CloneRange(dst, src *os.File, off, from, n int64) error {
	return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd:      int64(src.Fd()),
		Src_offset:  uint64(from),
		Src_length:  uint64(n),
		Dest_offset: uint64(off),
	})
}
