package atomicfile

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLeftovers: what a killed process left under a temporary name goes when
// the next one writes the same path; what is being written stays.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.vmcsnote-core")
	begin := func(path string) *File {
		t.Helper()
		n, err := New(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if n.temp == "" { // with a name, as before rename, or without O_TMPFILE
			n.temp = n.tempName()
			if err := unix.Linkat(unix.AT_FDCWD, procPath(n.File), n.dirfd(), n.temp, unix.AT_SYMLINK_FOLLOW); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	killed, alive, other := begin(out), begin(out), begin(filepath.Join(dir, "other"))
	defer alive.Discard()
	killed.Close() // and nothing else, as after SIGKILL
	other.Close()
	mine := []string{".out.vmcsnote-core.vmcsnote-12", ".out.vmcsnote-core.vmcsnote-0123456789abcdef.txt", "out.vmcsnote-0123456789abcdef"}
	for _, name := range mine {
		write(t, filepath.Join(dir, name), "mine")
	}
	link := ".out.vmcsnote-core.vmcsnote-0123456789abcdef"
	if err := unix.Symlink("nowhere", filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
	n := begin(out)
	defer n.Discard()
	for name, want := range map[string]bool{
		killed.temp: false, alive.temp: true, other.temp: true, n.temp: true, mine[0]: true, mine[1]: true, mine[2]: true, link: true,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}
