package record

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/atomicfile"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmcsnote", "record")
	for _, want := range []Record{sample(4756), sample(0)} { // the second replaces the first
		if err := WriteFile(path, want, false); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(path); err != nil || !equal(got, want) {
			t.Errorf("%v, or another record came back", err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", fi.Mode(), err)
		}
		if names := list(t, filepath.Dir(path)); names != "record" {
			t.Errorf("the directory holds %s, want the record alone", names)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	defer unix.Umask(unix.Umask(0o277))
	if err := WriteFile(path, sample(1), false); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", fi.Mode(), err)
	}
}

func TestWriteFileErrors(t *testing.T) {
	bad := sample(1)
	bad.BootID = ""
	for _, tt := range []struct {
		name  string
		path  string
		r     Record
		limit uint64 // the longest file that can be written, 0 for any
		err   error  // nil for any
	}{
		{"record that could not be read back", "new/record", bad, 0, nil},
		{"no room", "new/record", sample(maxNote), 4096, unix.EFBIG},
		{"no room in a directory that was there", "there/record", sample(maxNote), 4096, unix.EFBIG},
		{"a directory in its place", "there", sample(1), 0, unix.EISDIR},
		{"a file for a directory", "there/file/record", sample(1), 0, unix.ENOTDIR},
		{"two directories missing", "new/new/record", sample(1), 0, unix.ENOENT},
		{"name too long", "new/" + strings.Repeat("x", 256), sample(1), 0, unix.ENAMETOOLONG},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := WriteFile(filepath.Join(root, "there/file"), sample(1), false); err != nil {
				t.Fatal(err)
			}
			if tt.limit != 0 {
				limitFileSize(t, tt.limit)
			}
			err := WriteFile(filepath.Join(root, tt.path), tt.r, false)
			if err == nil || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			if names := list(t, root); names != "there" {
				t.Errorf("left %s, want there", names)
			}
			if names := list(t, filepath.Join(root, "there")); names != "file" {
				t.Errorf("left there: %s, want file", names)
			}
		})
	}
}

// TestWriteFileReplaces: only a record or an empty file is replaced unasked.
func TestWriteFileReplaces(t *testing.T) {
	dump := []byte("KDUMP   " + strings.Repeat("precious", 1000))
	for _, tt := range []struct {
		name  string
		make  func(t *testing.T, path string)
		err   error // without overwrite, nil for none
		never bool  // an error even with overwrite
	}{
		{"a record", func(t *testing.T, path string) { put(t, path, sample(2).Encode()) }, nil, false},
		{"a record of a later version", func(t *testing.T, path string) { put(t, path, sealed("vmcsnote-record 2\n")) }, nil, false},
		{"an empty file", func(t *testing.T, path string) { put(t, path, nil) }, nil, false},
		{"a dump", func(t *testing.T, path string) { put(t, path, dump) }, atomicfile.ErrExists, false},
		{"a symbolic link to a dump", func(t *testing.T, path string) {
			put(t, path+".dump", dump)
			link(t, path+".dump", path)
		}, atomicfile.ErrExists, false},
		{"a symbolic link to nowhere", func(t *testing.T, path string) { link(t, "nowhere", path) }, atomicfile.ErrDangling, true},
		{"a symbolic link to a device", func(t *testing.T, path string) { link(t, "/dev/null", path) }, atomicfile.ErrNotRegular, true},
		{"a FIFO", func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Skip(err)
			}
		}, atomicfile.ErrNotRegular, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "record")
			tt.make(t, path)
			before, _ := os.Lstat(path)
			err := WriteFile(path, sample(1), false)
			if tt.err == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Error("replaced all the same")
			}
			if err := WriteFile(path, sample(1), true); (err != nil) != tt.never {
				t.Errorf("with overwrite: %v", err)
			}
		})
	}
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func TestReadFileErrors(t *testing.T) {
	if _, err := ReadFile(filepath.Join(t.TempDir(), "record")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	path := filepath.Join(t.TempDir(), "record")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil { // sparse
		t.Skip(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path+": record of 2097153 bytes") {
		t.Errorf("endless: got %v", err)
	}
}

// limitFileSize makes writes beyond a size fail, as on a full disk, until the
// test ends.
func limitFileSize(t *testing.T, size uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		signal.Reset(unix.SIGXFSZ)
	})
}

// list names what is in a directory.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
