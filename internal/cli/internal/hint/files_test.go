package hint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/visible"
	"vmcsnote/vmcore"
)

// TestReadOnlyHint: chmod helps the owner alone, and inject -n is run by
// anybody.
func TestReadOnlyHint(t *testing.T) {
	got := Of(errors.Wrap(vmcore.ErrReadOnly, "mode 0644, owner uid 0"))
	if want := "run as root, or as its owner after chmod u+w, or write a copy with -o"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRecordsHint: makedumpfile can read a dump of more records than vmcsnote
// keeps in memory.
func TestRecordsHint(t *testing.T) {
	got := Of(errors.Wrap(vmcore.ErrTooManyRecords, "record at offset 0x1000"))
	if want := "put the dump together with makedumpfile -R first"; got != want {
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
		{"ia", false, "is immutable: chattr -i it"},
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
		for range 20 { // each time the same
			if got := Of(err); !strings.Contains(got, visible.Name(marked)+" "+tt.want) {
				t.Fatalf("chattr +%s: hint %q, want %q in it", tt.attribute, got, tt.want)
			}
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
