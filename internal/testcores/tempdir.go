package testcores

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// memoryRoom is the least that must be free for tests to use memory as a disk.
const memoryRoom = 2 << 30

// InMemory makes the temporary directories of this process and its children
// directories of a memory file system, if there is one with room. Call it in
// TestMain: tests write small dumps by the hundred, each with several syncs,
// and would spend most of their time waiting for the disk. None of them judges
// what the disk does. To run them on a disk all the same, set TMPDIR, as
// .ci/run does.
//
// When a process was killed, the next one to start removes its files.
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
	sweep(filepath.Join(dir, memoryDir+"*"))
	tmp, err := os.MkdirTemp(dir, memoryDir)
	if err == nil {
		err = os.Chmod(tmp, 0o777|os.ModeSticky) // like the directory that it replaces
	}
	if err == nil && hold(tmp) {
		os.Setenv("TMPDIR", tmp)
	}
}

const memoryDir = "vmcsnote-test-"

// held is the directory that this process holds the lock of.
var held *os.File

// hold locks a new directory for the life of this process. It reports false if
// sweep was faster.
func hold(dir string) bool {
	var err error
	if held, err = os.Open(dir); err != nil || unix.Flock(int(held.Fd()), unix.LOCK_EX) != nil {
		return false
	}
	_, err = os.Stat(dir)
	return err == nil
}

// sweep removes directories whose processes are gone.
func sweep(pattern string) {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}
