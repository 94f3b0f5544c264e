package atomicfile

import (
	"strings"

	"golang.org/x/sys/unix"
)

// temporary reports whether s is what tempName appends to a dot and the
// beginning of a name.
func temporary(s string) bool {
	digits, ok := strings.CutPrefix(s, ".vmcsnote-")
	return ok && len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

// lock marks the file as being written, for removeLeftovers of others. A file
// system without locks does without.
func (n *File) lock() {
	unix.Flock(int(n.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// removeLeftovers removes files under temporary names for the same path whose
// writers were killed: nobody holds their lock any more. They may be as large
// as a dump. Errors do not matter.
func (n *File) removeLeftovers() {
	dir, err := unix.Openat(n.dirfd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	mine := n.tempName()
	prefix := mine[:strings.LastIndex(mine, ".vmcsnote-")]
	buf := make([]byte, 64<<10)
	for {
		k, err := unix.ReadDirent(dir, buf)
		if err != nil || k <= 0 {
			return
		}
		_, _, names := unix.ParseDirent(buf[:k], -1, nil)
		for _, name := range names {
			if rest, ok := strings.CutPrefix(name, prefix); ok && name != n.temp && temporary(rest) {
				n.removeUnlocked(name)
			}
		}
	}
}

func (n *File) removeUnlocked(name string) {
	fd, err := unix.Openat(n.dirfd(), name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	unix.Unlinkat(n.dirfd(), name, 0)
}
