package vmcore

import (
	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/plan"
)

// isMount reports whether a file is mounted on its own, as in containers.
func isMount(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// stillWritten refuses to put a new file in the place of a core that is not
// complete, if a lease shows that anybody else has it open: a process that
// still writes it would go on writing to a file without a name.
func (o *File) stillWritten() error {
	if o.Claimed() <= o.PlainSize() {
		return nil
	}
	l, err := takeLease(o.f)
	if err == nil && l == nil {
		err = errors.Wrap(ErrNoPlace, "the kernel does not tell who has it open")
	}
	if err != nil {
		return errors.Wrap(err, "the file is not complete, and somebody may still be writing it")
	}
	return l.release()
}

// unread returns an error that wraps [ErrNoPlace] if another process has the
// file open, because a change in place would harm it.
func (o *File) unread() error {
	l, err := takeLease(o.f)
	if err != nil {
		return err
	}
	return l.release()
}

// replaceable returns an error that wraps [ErrNoPlace] if no new file can take
// the core's place by pl.
func (o *File) replaceable(pl Placement) error {
	st := statT(o.info)
	switch {
	case st.Nlink != 1:
		return errors.Wrapf(ErrNoPlace, "the file has %d names, and a new one would have only one", st.Nlink)
	case isMount(o.path):
		return errors.Wrap(ErrNoPlace, "the file is a mount point")
	case pl == Clone && o.flat():
		return errors.Wrap(ErrNoPlace, "the records of a flattened dump cannot be shifted by blocks")
	}
	if err := o.stillWritten(); err != nil {
		return err
	}
	n, err := atomicfile.New(o.path, 0o600)
	if err != nil {
		return errors.Wrap(ErrNoPlace, err.Error())
	}
	defer n.Discard()
	if err := n.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return errors.Wrapf(ErrNoPlace, "a new file could not be given to its owner, uid %d, and its group, gid %d", st.Uid, st.Gid)
	}
	if err := copyXattrs(n.File, o.f); err != nil {
		return errors.Wrapf(ErrNoPlace, "a new file could not have its extended attributes (%v)", err)
	}
	if pl == Clone {
		if err := atomicfile.CloneRange(n.File, o.f, 0, 0, plan.PageSize); err != nil {
			return errors.Wrapf(ErrNoPlace, "the file system does not share blocks (%v)", err)
		}
		return nil
	}
	var free unix.Statfs_t
	if err := unix.Fstatfs(int(n.Fd()), &free); err != nil {
		return errors.Wrap(err, "statfs")
	}
	if have, need := int64(free.Bavail)*int64(free.Bsize), st.Blocks*512; have < need {
		return errors.Wrapf(ErrNoPlace, "a copy needs %d bytes, the file system has %d free", need, have)
	}
	return nil
}
