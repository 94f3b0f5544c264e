// Package initramfs reads the files of an initramfs, in the form in which the
// kernel takes it (Documentation/driver-api/early-userspace/buffer-format.rst,
// init/initramfs.c): cpio archives one after another, each bare or compressed,
// with zero bytes between them. The first is often a bare one with the
// processor's microcode, and only the last is compressed.
package initramfs

import (
	"bufio"
	"bytes"
	"io"

	"github.com/pkg/errors"
)

// Limits.
const (
	// maxUnpacked is the most that Walk unpacks, in bytes. An initramfs with
	// all firmware takes some 800 MB.
	maxUnpacked = 2 << 30
	// maxName is the longest name of a file, in bytes: the kernel's PATH_MAX.
	maxName = 4096
)

var (
	// errFormat is wrapped by errors about what is no initramfs, or a damaged
	// one.
	errFormat = errors.New("not an initramfs")
	// errTooLarge is wrapped by the error of one that unpacks to more than
	// maxUnpacked.
	errTooLarge = errors.New("initramfs is too large")
)

// An Unpack returns a reader that unpacks r by a compression: gzip, zstd, xz,
// lzma, lz4, lzo or bzip2. It reads r to its end; Walk closes what it returns.
type Unpack func(compression string, r io.Reader) (io.ReadCloser, error)

// A File is a member of an archive.
type File struct {
	Name string // without a / or ./ before it, up to maxName-1 bytes, any but 0
	Mode uint32 // as in struct stat
	Size int64  // of its contents, bytes
	// Contents are a link's target, too. Of a file with several names only
	// the last has them. To be read during the visit or not at all.
	Contents io.Reader
}

// Walk calls visit for each file of the initramfs in r, in order, until that
// fails. It reads at most maxUnpacked bytes of archives, and keeps none. An
// archive that is cut off is an error: io.ErrUnexpectedEOF is within it.
func Walk(r io.Reader, unpack Unpack, visit func(File) error) error {
	w := walker{visit: visit, left: maxUnpacked}
	in := bufio.NewReader(r)
	if err := w.archives(in); err != nil {
		return err
	}
	magic, _ := in.Peek(4)
	c := compression(magic)
	if c == "" {
		return ended(in)
	}
	plain, err := unpack(c, in)
	if err != nil {
		return err
	}
	defer plain.Close()
	in = bufio.NewReader(plain)
	err = w.archives(in)
	if err == nil {
		err = ended(in)
	}
	return errors.Wrap(err, c)
}

// compression names the compression that b begins with, by the kernel's table
// (lib/decompress.c); "" if there is none.
func compression(b []byte) string {
	for _, c := range [...]struct{ magic, name string }{
		{"\x1f\x8b", "gzip"}, {"\x28\xb5", "zstd"}, {"\xfd7", "xz"}, {"\x5d\x00", "lzma"},
		{"\x02\x21", "lz4"}, {"\x89L", "lzo"}, {"BZ", "bzip2"},
	} {
		if bytes.HasPrefix(b, []byte(c.magic)) {
			return c.name
		}
	}
	return ""
}

// ended fails unless nothing is left of r.
func ended(r *bufio.Reader) error {
	b, err := r.Peek(4)
	switch {
	case len(b) > 0:
		return errors.Wrapf(errFormat, "found % x, expected a cpio archive (newc), compressed or not", b)
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
