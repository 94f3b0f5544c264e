package cli

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore"
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
		got := hint(errors.Wrap(&fs.PathError{Op: "open", Path: path, Err: errno}, "opening"))
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

// TestReadOnlyHint: chmod helps the owner alone, and inject -n is run by anybody.
func TestReadOnlyHint(t *testing.T) {
	got := hint(errors.Wrap(vmcore.ErrReadOnly, "mode 0644, owner uid 0"))
	if want := "run as root, or as its owner after chmod u+w, or write a copy with -o"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAttributeHint: a file or a directory that chattr made immutable or
// append-only is told as that.
func TestAttributeHint(t *testing.T) {
	for _, tt := range []struct {
		attribute string
		dir       bool
		want      string
	}{
		{"i", false, "is immutable: chattr -i it"},
		{"a", false, "is append-only: chattr -a it"},
		{"i", true, "is immutable: chattr -i it"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "vmcore")
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		marked := path
		if tt.dir {
			marked = dir
		}
		if out, err := exec.Command("chattr", "+"+tt.attribute, marked).CombinedOutput(); err != nil {
			t.Skipf("chattr +%s: %v %s", tt.attribute, err, out)
		}
		t.Cleanup(func() { exec.Command("chattr", "-"+tt.attribute, marked).Run() })
		var err error
		if tt.dir {
			_, err = os.Create(path + ".2")
		} else {
			_, err = os.OpenFile(path, os.O_RDWR, 0)
		}
		if !errors.Is(err, syscall.EPERM) {
			t.Skipf("chattr +%s has no effect: %v", tt.attribute, err)
		}
		if got := hint(err); !strings.Contains(got, name(marked)+" "+tt.want) {
			t.Errorf("chattr +%s: hint %q, want %q in it", tt.attribute, got, tt.want)
		}
	}
}

func TestMountOf(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/proc/self/status": "/proc", "/nowhere/at/all": "/"} {
		if !strings.Contains(string(mounts), " "+want+" ") {
			want = "" // in a chroot, whose root is no mount point
		}
		if got := mountOf(file); got != want && want != "" {
			t.Errorf("%s is on %q, want %s", file, got, want)
		}
	}
}
