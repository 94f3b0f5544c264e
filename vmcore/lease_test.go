package vmcore

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/testdumps"
)

// needLeases skips where the file system of path has none.
func needLeases(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if l, err := takeLease(f); err != nil || l == nil {
		t.Skipf("no leases here (%v)", err)
	}
}

// TestReaderGetsOneDump: a reader that has begun gets the old dump to its end,
// since a new file takes the name; where that cannot be, the change is refused.
func TestReaderGetsOneDump(t *testing.T) {
	for _, name := range []string{"kernel-slack", "kernel-full", "gcore"} {
		t.Run(name, func(t *testing.T) {
			path := testcores.Open(t, name)
			needLeases(t, path)
			old := testcores.Bytes(t, name)
			r, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			begun := make([]byte, 0x1800)
			if _, err := io.ReadFull(r, begun); err != nil {
				t.Fatal(err)
			}
			f := mustOpen(t, path, OpenFileRW)
			n := testdumps.Note(t, name)
			for _, pl := range []Placement{Slack, End, Evict} {
				if _, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), pl); !errors.Is(err, ErrNoPlace) {
					t.Errorf("%s: error is %v", pl, err)
				}
			}
			p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), "")
			if err != nil {
				t.Fatal(err)
			}
			if p.Placement != Clone && p.Placement != Copy {
				t.Errorf("placement is %s", p.Placement)
			}
			if err := p.Do(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(append(begun, rest...), old) {
				t.Errorf("the reader got another dump, %v", err)
			}
		})
	}
}

// TestReaderAfterPlan: who opens the file after the plan was made is seen
// before anything is written.
func TestReaderAfterPlan(t *testing.T) {
	path := testcores.Open(t, "kernel-slack")
	needLeases(t, path)
	f := mustOpen(t, path, OpenFileRW)
	n := testdumps.Note(t, "kernel-slack")
	p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), Slack)
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := p.Do(t.Context(), nil); !errors.Is(err, ErrNoPlace) {
		t.Errorf("error is %v", err)
	}
	testcores.Same(t, path, "kernel-slack")
}

// TestReaderMeanwhile: who opens the file while it changes in place waits, and
// gets the new dump.
func TestReaderMeanwhile(t *testing.T) {
	path := testcores.Open(t, "kernel-full")
	needLeases(t, path)
	f := mustOpen(t, path, OpenFileRW)
	n := testdumps.Note(t, "kernel-full")
	p, err := f.Plan(f.Notes().Insert(n), elfnote.Splice{}, Evict)
	if err != nil {
		t.Fatal(err)
	}
	cat := exec.Command("cat", path)
	var got bytes.Buffer
	cat.Stdout = &got
	start := func(int64, int64) {
		if cat.Process == nil {
			if err := cat.Start(); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Millisecond) // it gets as far as it can
		}
	}
	if err := p.Do(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	if err := cat.Wait(); err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the reader got %d bytes, not the new dump (%v)", got.Len(), err)
	}
}

// TestNoHolesForReaders: once a reader may have got in, nothing is punched.
func TestNoHolesForReaders(t *testing.T) {
	path := testcores.Open(t, "kernel-slack")
	needLeases(t, path)
	f := mustOpen(t, path, OpenFileRW)
	l, err := takeLease(f.f)
	if err != nil {
		t.Fatal(err)
	}
	l.taken = l.taken.Add(-leaseBreak) // as if somebody had waited so long
	if err := (fileMedium{f.f, l}).Zero(0x3000, 8); err != nil {
		t.Errorf("nobody came: %v", err)
	}
	if _, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("opened at once (%v)", err)
	}
	if err := (fileMedium{f.f, l}).Zero(0x3000, 8); err == nil {
		t.Error("zeroed")
	}
}

// TestSecurityXattrs: what is a hash of the old contents stays with these, and
// an attribute that a new file cannot have is no surprise after the copy.
func TestSecurityXattrs(t *testing.T) {
	path := testcores.Open(t, "kernel-full")
	for name, value := range map[string]string{"security.ima": "\x04\x04hash", "user.kept": "kept"} {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Skipf("%s: %v", name, err)
		}
	}
	p, err := planCopy(t, path, "kernel-full")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	list := make([]byte, 1000)
	n, err := unix.Listxattr(path, list)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(splitNames(list[:n]), " "); got != "user.kept" {
		t.Errorf("attributes are %q", got)
	}
}
