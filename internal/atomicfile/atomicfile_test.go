package atomicfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// TestDirectorySwapped: once a file is begun, its directory cannot be exchanged
// for a symbolic link to make it appear, or replace a file, elsewhere.
func TestDirectorySwapped(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replace bool
		temp    bool // as on a file system without O_TMPFILE
	}{
		{"new", false, false},
		{"new, with a temporary name", false, true},
		{"replacing", true, false},
		{"replacing, with a temporary name", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			mine, victim := filepath.Join(root, "mine"), filepath.Join(root, "victim")
			for _, dir := range []string{mine, victim} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if tt.replace {
					write(t, filepath.Join(dir, "out"), dir)
				}
			}
			n, err := Create(filepath.Join(mine, "out"), Options{Mode: 0o600, Overwrite: true})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Discard()
			if tt.temp && n.temp == "" {
				n.temp = n.tempName()
				if err := unix.Linkat(unix.AT_FDCWD, procPath(n.File), n.dirfd(), n.temp, unix.AT_SYMLINK_FOLLOW); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := n.WriteString("written"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(mine, mine+".moved"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(victim, mine); err != nil {
				t.Fatal(err)
			}
			if err := n.Finish(); err != nil {
				t.Fatal(err)
			}
			if got := names(t, mine+".moved"); got != "out" || read(t, mine+".moved/out") != "written" {
				t.Errorf("the directory has %q, want the new file", got)
			}
			if tt.replace && read(t, victim+"/out") != victim {
				t.Error("a file of the other directory was replaced")
			} else if got := names(t, victim); !tt.replace && got != "" {
				t.Errorf("%q appeared in the other directory", got)
			}
		})
	}
}

// TestTaken: a file that took the name meanwhile stays.
func TestTaken(t *testing.T) {
	for _, replace := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "out")
		want := ErrExists
		if replace {
			want = ErrTaken
			write(t, path, "old")
		}
		n, err := Create(path, Options{Mode: 0o600, Overwrite: true})
		if err != nil {
			t.Fatal(err)
		}
		write(t, path+".2", "another")
		if err := os.Rename(path+".2", path); err != nil {
			t.Fatal(err)
		}
		if err := n.Finish(); !errors.Is(err, want) {
			t.Errorf("replace %t: got %v, want %v", replace, err, want)
		}
		n.Discard()
		if read(t, path) != "another" || names(t, filepath.Dir(path)) != "out" {
			t.Errorf("replace %t: the other file is gone, or something is left", replace)
		}
	}
}

// TestBlockDevice: one is not written to unasked, and never while it is in use.
func TestBlockDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 255))); err != nil {
		t.Skip("no block device can be made: ", err)
	}
	if _, err := Create(path, Options{Devices: true}); !errors.Is(err, ErrBlockDevice) {
		t.Errorf("got %v, want %v", err, ErrBlockDevice)
	}
	if _, err := Create(path, Options{Devices: true, Overwrite: true}); errors.Is(err, ErrBlockDevice) {
		t.Errorf("with Overwrite: %v", err)
	}
	if _, err := Create(path, Options{Overwrite: true}); !errors.Is(err, ErrNotRegular) {
		t.Errorf("for a file alone: got %v, want %v", err, ErrNotRegular)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, e := range entries {
		b.WriteString(e.Name())
	}
	return b.String()
}
