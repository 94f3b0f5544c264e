package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/cli/internal/hint"
)

// TestFileHints: each error of a system call has its own cure.
func TestFileHints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmcore")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[string]syscall.Errno{}
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES:  "owner",
		syscall.EPERM:   "the kernel forbids it",
		syscall.EROFS:   "mounted read-only",
		syscall.ENOSPC:  "full",
		syscall.EDQUOT:  "quota",
		syscall.EFBIG:   "ulimit",
		syscall.ETXTBSY: "swapoff",
		syscall.EBUSY:   "unmount",
		syscall.EIO:     "dmesg",
		syscall.ESTALE:  "NFS",
	} {
		got := hint.Of(errors.Wrap(&fs.PathError{Op: "open", Path: path, Err: errno}, "opening"))
		if !strings.Contains(got, want) {
			t.Errorf("%v: hint %q, want %q in it", errno, got, want)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%v and %v have the same hint %q", errno, other, got)
		}
		seen[got] = errno
		for _, name := range []string{"inject", "show"} { // with -o, and without
			c, _ := find(name)
			fit := ""
			for line := range strings.SplitSeq(got, "\n") {
				if c.fits(line) {
					fit = line
					break
				}
			}
			if fit == "" && errno != syscall.EPERM {
				t.Errorf("%v: no hint for %s", errno, name)
			}
		}
	}
}
