package hint

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/visible"
)

// fileHint returns the cure for an error of a system call, or "".
func fileHint(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
	case errors.Is(err, fs.ErrPermission):
		errno = syscall.EACCES
	default:
		return ""
	}
	path := ""
	if perr := (*fs.PathError)(nil); errors.As(err, &perr) {
		path = perr.Path
	}
	switch errno {
	case syscall.EACCES:
		return accessHint(path)
	case syscall.EPERM:
		return attributeHint(path)
	case syscall.EROFS:
		where := "the file system"
		if m := mountOf(path); m != "" {
			where = visible.Name(m)
		}
		return where + " is mounted read-only: remount it rw, or write a copy elsewhere with -o\n" +
			where + " is mounted read-only: remount it rw, or write elsewhere"
	case syscall.ENOSPC:
		return full("the file system is full: make room")
	case syscall.EDQUOT:
		return full("your quota is used up: make room")
	case syscall.EFBIG:
		return full("the file would be larger than its file system or ulimit -f allows: raise the limit")
	case syscall.ETXTBSY:
		return orCopy("the file is in use as a program or as swap: swapoff it or end the program")
	case syscall.EBUSY:
		return "it is mounted, or used by a volume manager or as swap: unmount it, or write elsewhere"
	case syscall.EIO:
		return "the disk or the network failed: see dmesg, and save the dump elsewhere before anything else"
	case syscall.ESTALE:
		return "the NFS server no longer knows the file: mount it again"
	case syscall.ENOTSUP:
		return "the file system cannot do that: write to another one with -o\n"
	}
	return ""
}

// full is the cure where there is no room.
func full(what string) string {
	return what + ", or write a copy to another file system with -o\n" + what + ", or write to another file system"
}

// accessHint is the cure where the permissions of a file, or of a directory on
// the way to it, forbid something.
func accessHint(path string) string {
	who := "run as root or as the file's owner"
	if st := statOf(path); st != nil {
		who = fmt.Sprintf("run as root or as its owner, uid %d", st.Uid)
	}
	if os.Geteuid() == 0 {
		who = "not even root may: look at the SELinux label, and at root_squash if it is on NFS; run as the file's owner"
	}
	return orCopy(who)
}

// orCopy adds to a cure, for commands that have -o, what else they can do.
func orCopy(cure string) string { return cure + ", or write a copy elsewhere with -o\n" + cure }

// attributeHint is the cure where the kernel forbids what the permissions
// allow: mostly for an attribute of the file, or of its directory.
func attributeHint(path string) string {
	for _, p := range []string{path, filepath.Dir(path)} {
		if path == "" {
			break
		}
		for _, a := range []struct {
			flag         int
			what, letter string
		}{{unix.STATX_ATTR_IMMUTABLE, "immutable", "i"}, {unix.STATX_ATTR_APPEND, "append-only", "a"}} {
			if attributes(p)&a.flag != 0 {
				return orCopy(fmt.Sprintf("%s is %s: chattr -%s it", visible.Name(p), a.what, a.letter))
			}
		}
	}
	return "the kernel forbids it: a container's limits, or a security module; try as root of the host\n"
}

// attributes returns a file's attributes as statx(2) has them, or 0.
func attributes(path string) int {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, 0, &st) != nil {
		return 0
	}
	return int(st.Attributes)
}

func statOf(path string) *syscall.Stat_t {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return st
}

// mountOf returns where the file system that holds path is mounted, or "".
func mountOf(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	b, err := inputfile.ReadAll("/proc/self/mounts", 1<<20)
	if err != nil {
		return ""
	}
	found := ""
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[1])
		if (path == at || strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/")) && len(at) >= len(found) {
			found = at
		}
	}
	return found
}
