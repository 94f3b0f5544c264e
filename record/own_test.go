package record

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
)

func TestReadOwn(t *testing.T) {
	chown := func(t *testing.T, path string, uid, gid int) {
		if err := os.Chown(path, uid, gid); err != nil {
			t.Skip(err)
		}
	}
	chmod := func(t *testing.T, path string, mode os.FileMode) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		set  func(t *testing.T, path string)
		want error
	}{
		{"as written", func(*testing.T, string) {}, nil},
		{"readable by all", func(t *testing.T, path string) { chmod(t, path, 0o644) }, nil},
		{"writable by its owner's own group", func(t *testing.T, path string) { chmod(t, path, 0o664) }, nil},
		{"writable by all", func(t *testing.T, path string) { chmod(t, path, 0o602) }, ErrForeign},
		{"another owner", func(t *testing.T, path string) { chown(t, path, 12345, -1) }, ErrForeign},
		{"writable by another group", func(t *testing.T, path string) {
			chown(t, path, -1, 12345)
			chmod(t, path, 0o660)
		}, ErrForeign},
		{"readable by another group", func(t *testing.T, path string) {
			chown(t, path, -1, 12345)
			chmod(t, path, 0o640)
		}, nil},
		{"in a directory writable by all", func(t *testing.T, path string) { chmod(t, filepath.Dir(path), 0o777) }, ErrForeign},
		{"in a directory of another owner", func(t *testing.T, path string) { chown(t, filepath.Dir(path), 12345, -1) }, ErrForeign},
		{"a symbolic link", func(t *testing.T, path string) {
			if err := os.Rename(path, path+".real"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("record.real", path); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
		{"missing", func(t *testing.T, path string) { os.Remove(path) }, os.ErrNotExist},
		{"directory missing", func(t *testing.T, path string) { os.RemoveAll(filepath.Dir(path)) }, os.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vmcsnote", "record")
			if err := WriteFile(path, sample(100), false); err != nil {
				t.Fatal(err)
			}
			tt.set(t, path)
			if r, err := ReadOwn(path); !errors.Is(err, tt.want) || err == nil && !equal(r, sample(100)) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
