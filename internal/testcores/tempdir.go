package testcores

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryRoom is the least that must be free for tests to use memory as a disk.
const memoryRoom = 2 << 30

// InMemory makes the temporary directories of this process and its children
// directories of a memory file system, if there is one with room. Call it in
// TestMain: tests write small dumps by the hundred, each with several syncs, and
// would spend most of their time waiting for the disk. None of them judges what
// the disk does; who wants to see them on one sets TMPDIR, as .ci/run does.
func InMemory() {
	const dir = "/dev/shm"
	var fs unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || unix.Statfs(dir, &fs) != nil || unix.Access(dir, unix.W_OK) != nil {
		return
	}
	// Scripts run programs that the tests put there.
	if fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC != 0 || fs.Bavail*uint64(fs.Bsize) < memoryRoom {
		return
	}
	os.Setenv("TMPDIR", dir)
}
