package vmcore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// copyKDump carries a layout out as a stream does it.
func copyKDump(t testing.TB, b []byte, l *Layout) []byte {
	t.Helper()
	var out bytes.Buffer
	s := &plan.Streamer{Ctx: t.Context(), W: &out, R: bytes.NewReader(b), Buf: make([]byte, 4096)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestKDumpCopy: a copy holds all that was there, is what a stream gives, and
// removing the note undoes it.
func TestKDumpCopy(t *testing.T) {
	for name, b := range kdumpCores(t) {
		for how, splice := range kdumpSplices {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c, n := openKDump(t, b), kdumpNote(t, name)
				sp, ok := splice(c.Notes(), n)
				if !ok {
					return
				}
				l, err := c.PlanCopy(sp)
				if err != nil {
					t.Fatal(err)
				}
				out := copyKDump(t, b, l)
				if int64(len(out)) != l.Size {
					t.Errorf("%#x bytes, planned are %#x", len(out), l.Size)
				}
				done := openKDump(t, out)
				checkKDumpCopy(t, done, c)
				if streamed := streamKDump(t, b, sp); !bytes.Equal(streamed, out) {
					t.Error("a stream gives another file")
				}
				if how == "inject" && name != "fill" {
					i, _ := done.Notes().Find(n.Name, 0)
					if l, err = done.PlanCopy(done.Notes().Remove(i)); err != nil {
						t.Fatal(err)
					}
					if back := copyKDump(t, out, l); !bytes.Equal(back, b) {
						t.Error("removing the note does not undo injecting it")
					}
				}
			})
		}
	}
}

func checkKDumpCopy(t *testing.T, done, before *kdump.Dump) {
	t.Helper()
	got, err := sumKDump(done, 0)
	want, err2 := sumKDump(before, 0)
	if err != nil || err2 != nil || got.memory != want.memory || got.erase != want.erase {
		t.Errorf("the copy loses memory (%v, %v)", err, err2)
	}
	if got, want := done.Info, wantInfo(done); got != want {
		t.Errorf("VMCOREINFO is at %v, want %v", got, want)
	}
	noWorse(t, done, before)
	if done.Claimed() != done.Size {
		t.Errorf("it claims to end at %#x, the file does at %#x", done.Claimed(), done.Size)
	}
}

// streamKDump changes the notes of a stream.
func streamKDump(t testing.TB, b []byte, sp elfnote.Splice) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Stream(t.Context(), &out, bytes.NewReader(b), func(Core) (elfnote.Splice, error) { return sp, nil }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestKDumpStreamEnds: wherever a stream ends, what came of it is what a copy
// of the truncated file is.
func TestKDumpStreamEnds(t *testing.T) {
	for name, s := range kdumpSpecs {
		b := s.build()
		for _, left := range []int64{1, 100, 2000, 20_000, int64(len(b)) - 2*int64(openKDump(t, b).BlockSize)} {
			part := b[:max(int64(len(b))-left, 0)]
			var out bytes.Buffer
			_, err := Stream(t.Context(), &out, bytes.NewReader(part), func(c Core) (elfnote.Splice, error) {
				return c.Notes().Insert(testVMCSInfo), nil
			})
			c, err2 := kdump.Open(bytes.NewReader(part), int64(len(part)))
			if err2 != nil {
				if err == nil || out.Len() > 0 {
					t.Errorf("%s: %d bytes missing: error is %v, want %v; %d bytes written", name, left, err, err2, out.Len())
				}
				continue
			}
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%s: %d bytes missing: error is %v, want ErrTruncated", name, left, err)
			}
			l, err := c.PlanCopy(c.Notes().Insert(testVMCSInfo))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), copyKDump(t, part, l)) {
				t.Errorf("%s: %d bytes missing: a stream gives another file than a copy", name, left)
			}
		}
	}
}

// TestKDumpHome: a copy brings notes back from the end of the file, and without
// the note is what was before.
func TestKDumpHome(t *testing.T) {
	for name, b := range kdumpCores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, n := openKDump(t, b), kdumpNote(t, name)
			p, err := c.PlanInPlace(End, c.Notes().Append(n))
			if err != nil {
				return
			}
			change := &kdumpChange{plan: p, base: b}
			j, err := change.run(t, 0)
			if err != nil {
				t.Fatal(err)
			}
			ended, _ := io.ReadAll(io.NewSectionReader(j.now(), 0, j.now().length()))
			d := openKDump(t, ended)
			for i, e := range d.Notes().Notes {
				l, err := d.PlanCopy(d.Notes().Remove(i))
				if err != nil {
					t.Fatal(err)
				}
				out := copyKDump(t, ended, l)
				checkKDumpCopy(t, openKDump(t, out), c)
				if e.Name == n.Name && i == len(d.Notes().Notes)-1 && name != "fill" && !bytes.Equal(out, b) {
					t.Error("a copy without the note is not what was before")
				}
			}
			if _, err := kdump.Open(&head{r: bytes.NewReader(ended)}, plan.Endless); err != nil {
				t.Fatal(err)
			}
			h := &head{r: bytes.NewReader(ended)}
			s, _ := kdump.Open(h, plan.Endless)
			if _, err := s.PlanCopy(s.Notes().Remove(0)); !errors.Is(err, ErrOnePass) {
				t.Errorf("a stream: error is %v", err)
			}
		})
	}
}

// TestKDumpGolden compares what comes of real dumps with the golden files.
func TestKDumpGolden(t *testing.T) {
	for _, name := range []string{"cloud-c1.kdump-lzo"} {
		b := kdumpFile(t, name)
		c := openKDump(t, b)
		sp := c.Notes().Insert(testNote(t, name))
		l, err := c.PlanCopy(sp)
		if err != nil {
			t.Fatal(err)
		}
		kdumpGolden(t, name+".copy", copyKDump(t, b, l))
		p, err := c.PlanInPlace(End, sp)
		if err != nil {
			t.Fatal(err)
		}
		j, err := (&kdumpChange{plan: p, base: b}).run(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		ended, _ := io.ReadAll(io.NewSectionReader(j.now(), 0, j.now().length()))
		kdumpGolden(t, name+".end", ended)
	}
}

func kdumpGolden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	testcores.Golden(t, path, name)
}

// holedReader cannot read what lies at an offset.
type holedReader struct {
	io.ReaderAt
	at  int64
	err error // io.EOF: the file looks as if it ended there
}

func (r holedReader) ReadAt(p []byte, off int64) (int, error) {
	if off <= r.at && r.at < off+int64(len(p)) {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestKDumpCopyBadDisk: if the bitmap cannot be read, nothing says how many
// descriptors there are, whose offsets must change: there is no copy.
func TestKDumpCopyBadDisk(t *testing.T) {
	b := kdumpSpec{}.build()
	whole := openKDump(t, b)
	dumped, _ := whole.Bitmaps()
	for _, tt := range []struct {
		name string
		at   int64
		err  error
	}{
		{"bitmap", dumped, unix.EIO},
		{"later in the bitmap", dumped + kdumpMax/8, unix.EIO},
		{"bitmap, as if the file ended there", dumped, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "core")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := kdump.Open(holedReader{bytes.NewReader(b), tt.at, tt.err}, int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			sp := c.Notes().Insert(elfnote.Note{Name: "X", Desc: make([]byte, 8192)})
			l, err := c.PlanCopy(sp)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			s := &plan.Streamer{Ctx: t.Context(), W: &out, R: bytes.NewReader(b), Buf: make([]byte, 4096)}
			if err := s.Run(l); !errors.Is(err, unix.EIO) && !errors.Is(err, plan.ErrTruncated) {
				t.Errorf("streamed: %v", err)
			}
			src, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			dst, err := os.Create(path + ".new")
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			if err := copyLayout(&atomicfile.Copier{Ctx: t.Context(), Src: src, Dst: dst, Progress: func(int64) {}}, l); !errors.Is(err, unix.EIO) && !errors.Is(err, plan.ErrTruncated) {
				t.Errorf("copied: %v", err)
			}
		})
	}
}
