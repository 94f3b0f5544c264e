package vmcore

import (
	"context"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/plan"
)

// A fileMedium is a file that a plan in place is carried out on.
type fileMedium struct {
	*os.File
	lease *lease // or nil
}

func (m fileMedium) CopyWithin(ctx context.Context, s plan.Step, progress func(int64)) error {
	c := atomicfile.Copier{Ctx: ctx, Dst: m.File, Src: m.File, NoHoles: !s.Thin, Durable: true, Progress: progress}
	return plan.NoEOF(c.CopyRange(s.Off, s.From, s.Len))
}

// Zero punches a hole if it can, and otherwise writes zeros. It does neither
// once another process may read the file, which would get those zeros for
// memory.
func (m fileMedium) Zero(off, n int64) error {
	if m.lease.broken() {
		return errors.New("another process is reading the file")
	}
	if unix.Fallocate(int(m.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil {
		return nil
	}
	_, err := io.CopyN(io.NewOffsetWriter(m.File, off), plan.ZeroReader{}, n)
	return err
}

// Reserve allocates blocks, so that writing there later does not need any. If
// the file system cannot, it does nothing.
func (m fileMedium) Reserve(off, n int64) error {
	err := unix.Fallocate(int(m.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return nil
}

// ofContents are extended attributes with a hash or a signature of the file's
// contents, or of this file alone. They do not fit another file.
var ofContents = []string{"security.ima", "security.evm"}

// copyMeta gives dst the owner, mode, extended attributes (ACLs and SELinux
// label among them) and times of src.
func copyMeta(dst *atomicfile.File, src *os.File, info fs.FileInfo) error {
	st := statT(info)
	if err := dst.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := dst.Chmod(info.Mode()); err != nil {
		return err
	}
	if err := copyXattrs(dst.File, src); err != nil {
		return errors.Wrap(err, "extended attributes")
	}
	return errors.Wrap(dst.Chtimes(st.Atim, st.Mtim), "times")
}

func copyXattrs(dst, src *os.File) error {
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(int(src.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for _, name := range splitNames(names[:n]) {
		if slices.Contains(ofContents, name) {
			continue
		}
		n, err := unix.Fgetxattr(int(src.Fd()), name, value)
		if err != nil {
			return errors.Wrap(err, name)
		}
		if err := unix.Fsetxattr(int(dst.Fd()), name, value[:n], 0); err != nil {
			return errors.Wrap(err, name)
		}
	}
	return nil
}

func statT(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func splitNames(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 })
}
