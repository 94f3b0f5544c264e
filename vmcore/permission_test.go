package vmcore

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/testdumps"
)

const somebody = 12345 // a user without privileges

// as runs do as another user. The thread that has the user's id ends with it.
func as(t *testing.T, uid int, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, ^uintptr(0), uintptr(uid), ^uintptr(0))
		if errno != 0 {
			done <- errno
			return
		}
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0))
		if errno == 0 {
			do()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Skip("cannot become another user: ", errno)
	}
}

// readOnlyCore makes a core of mode 0400 that belongs to uid, in a directory
// that belongs to dirUID.
func readOnlyCore(t *testing.T, name string, mode os.FileMode, uid, dirUID int) string {
	t.Helper()
	path := testcores.Open(t, name)
	for _, err := range []error{
		os.Chmod(path, mode),
		os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755), os.Chmod(filepath.Dir(path), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Dir(path), dirUID, dirUID); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestForeignMeta: a new file that could not have the core's group or extended
// attributes is not planned.
func TestForeignMeta(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	for _, tt := range []struct {
		name string
		set  func(path string) error
		want string
	}{
		{"group", func(path string) error { return os.Chown(path, somebody, 0) }, "gid 0"},
		{"extended attributes", func(path string) error { return unix.Setxattr(path, "security.test", []byte("x"), 0) }, "security.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := readOnlyCore(t, "kernel-full", 0o600, somebody, somebody)
			n := testdumps.Note(t, "kernel-full")
			if err := tt.set(path); errors.Is(err, unix.ENOTSUP) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			as(t, somebody, func() {
				f, err := OpenFileRW(path)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				_, err = f.Plan(f.Notes().Insert(n), f.Notes().Append(n), Copy)
				if !errors.Is(err, ErrNoPlace) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %v because of %s", err, ErrNoPlace, tt.want)
				}
			})
		})
	}
}

// TestMode0400: root and the owner may change what cp makes of /proc/vmcore.
// Its mode stays, and no other is ever seen.
func TestMode0400(t *testing.T) {
	for _, tt := range []struct {
		name            string
		mode            os.FileMode
		uid, owner, dir int
		want            Placement
		err             error
	}{
		{name: "root's, by root", mode: 0o400, want: Slack},
		{name: "another's, by root", mode: 0o400, owner: somebody, dir: somebody, want: Slack},
		{name: "by its owner", mode: 0o400, uid: somebody, owner: somebody, dir: somebody, want: Copy},
		{name: "mode 0444, by its owner", mode: 0o444, uid: somebody, owner: somebody, dir: somebody, want: Copy},
		{name: "by its owner, in root's directory", mode: 0o400, uid: somebody, owner: somebody, err: ErrReadOnly},
		{name: "root's, by another", mode: 0o400, uid: somebody, dir: somebody, err: os.ErrPermission},
		{name: "root's of mode 0444, by another", mode: 0o444, uid: somebody, dir: somebody, err: os.ErrPermission},
		{name: "writable, by its owner", mode: 0o600, uid: somebody, owner: somebody, dir: somebody, want: Slack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := readOnlyCore(t, "kernel-slack", tt.mode, tt.owner, tt.dir)
			sp := testdumps.Note(t, "kernel-slack")
			as(t, tt.uid, func() {
				f, err := OpenFileRW(path)
				if err == nil {
					defer f.Close()
					var p *Plan
					if p, err = f.Plan(f.Notes().Insert(sp), f.Notes().Append(sp), ""); err == nil {
						if p.Placement != tt.want && !(tt.want == Copy && p.Placement == Clone) {
							t.Errorf("planned by %s, want %s", p.Placement, tt.want)
						}
						err = p.Do(t.Context(), nil)
					}
				}
				if !errors.Is(err, tt.err) {
					t.Errorf("got %v, want %v", err, tt.err)
				}
				owner := fmt.Sprintf("mode %#o, owner uid %d", tt.mode, tt.owner)
				if errors.Is(err, ErrReadOnly) && !strings.Contains(err.Error(), owner) {
					t.Errorf("got %v, want %q in it", err, owner)
				}
			})
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if st := statT(info); info.Mode() != tt.mode || int(st.Uid) != tt.owner {
				t.Errorf("mode %v, owner %d, want %v, %d", info.Mode(), st.Uid, tt.mode, tt.owner)
			}
			f := mustOpen(t, path, OpenFile)
			if i, ok := f.Notes().Find(sp.Name, sp.Type); ok != (tt.err == nil) {
				t.Errorf("the note is there: %t (%d)", ok, i)
			}
		})
	}
}
