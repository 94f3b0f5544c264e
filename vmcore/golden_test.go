package vmcore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/testdumps"
)

func elfOf(f *File) *elfcore.ELF { return f.Core.(elfCore).ELF }

func mustOpen(t testing.TB, path string, open func(string) (*File, error)) *File {
	t.Helper()
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestGoldenCopy: -o and a stream give the same bytes, those of the golden
// file, and removing the note gives the original back.
func TestGoldenCopy(t *testing.T) {
	for _, name := range testdumps.ELFCores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, out := testcores.Open(t, name), filepath.Join(t.TempDir(), "out")
			n := testdumps.Note(t, name)
			f := mustOpen(t, path, OpenFile)
			if _, err := f.CopyTo(t.Context(), out, f.Notes().Insert(n), CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			testcores.Golden(t, out, name+".copy")
			changed := mustOpen(t, out, OpenFile)
			checkNote(t, elfOf(changed), n)
			if err := testdumps.Summarize(t, elfOf(changed), n.Name).Diff(testdumps.Summarize(t, elfOf(f), "")); err != nil {
				t.Error(err)
			}
			checkFindings(t, elfOf(changed), elfOf(f))

			back := filepath.Join(t.TempDir(), "back")
			i, _ := changed.Notes().Find(n.Name, 0)
			if _, err := changed.CopyTo(t.Context(), back, changed.Notes().Remove(i), CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			testcores.Same(t, back, name)

			if f.PlainSize() > 64<<20 { // as a file, it has hundreds of MB of zeros
				streamed := &comparer{want: scanFile(t, out)}
				in := io.NewSectionReader(testcores.Image(t, name), 0, f.PlainSize())
				if _, err := Stream(t.Context(), streamed, in, func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(n), nil }); err != nil {
					t.Fatalf("stream: %v", err)
				}
				if streamed.off != streamed.want.Size() {
					t.Errorf("a stream gives %d bytes, expected %d", streamed.off, streamed.want.Size())
				}
				return
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			streamed := filepath.Join(t.TempDir(), "streamed")
			_, err = StreamTo(t.Context(), streamed, in, func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(n), nil }, CopyOptions{})
			if truncated := f.Claimed() > f.PlainSize(); truncated != errors.Is(err, ErrTruncated) || !truncated && err != nil {
				t.Fatalf("stream: %v", err)
			}
			testcores.Golden(t, streamed, name+".copy")
		})
	}
}

// A comparer fails at the first byte that is another one than wanted.
type comparer struct {
	want *sparse.Image
	off  int64
	buf  []byte
}

// Write implements [io.Writer].
func (c *comparer) Write(p []byte) (int, error) {
	c.buf = slices.Grow(c.buf[:0], len(p))[:len(p)]
	if _, err := c.want.ReadAt(c.buf, c.off); err != nil {
		return 0, err
	}
	if !bytes.Equal(p, c.buf) {
		return 0, errors.Errorf("other bytes within %#x at offset %#x", len(p), c.off)
	}
	c.off += int64(len(p))
	return len(p), nil
}

// scanFile returns the contents of a file.
func scanFile(t *testing.T, path string) *sparse.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := sparse.Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// TestGoldenInPlace carries every placement out that can be had, compares with
// the golden file, and takes the note out again.
func TestGoldenInPlace(t *testing.T) {
	for _, name := range testdumps.ELFCores(t) {
		for _, pl := range []Placement{Slack, End, Split, Evict, Copy} {
			t.Run(name+"/"+string(pl), func(t *testing.T) {
				t.Parallel()
				path := testcores.Open(t, name)
				n := testdumps.Note(t, name)
				f := mustOpen(t, path, OpenFileRW)
				before, original := testdumps.Summarize(t, elfOf(f), ""), elfOf(f)
				only := pl
				p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), only)
				if errors.Is(err, ErrNoPlace) {
					// Not every core has the room; which do, the golden files
					// say.
					testcores.Same(t, path, name)
					if testcores.HasGolden(t, name+"."+string(pl)) {
						t.Error(err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Do(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				f.Close()
				if pl == End { // what a copy gives
					testcores.Golden(t, path, name+".copy")
				} else {
					testcores.Golden(t, path, name+"."+string(pl)) // for Copy what -o gives
				}
				f = mustOpen(t, path, OpenFileRW)
				checkNote(t, elfOf(f), n)
				if err := testdumps.Summarize(t, elfOf(f), n.Name).Diff(before); err != nil {
					t.Error(err)
				}
				checkFindings(t, elfOf(f), original)

				i, _ := f.Notes().Find(n.Name, 0)
				p, err = f.Plan(f.Notes().Remove(i), f.Notes().Remove(i), "")
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Do(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				f.Close()
				f = mustOpen(t, path, OpenFile)
				if err := testdumps.Summarize(t, elfOf(f), "").Diff(before); err != nil {
					t.Error(err)
				}
				if pl != Evict {
					testcores.Same(t, path, name)
				}
			})
		}
	}
}

// checkNote makes sure that the note is there once, and directly after
// VMCOREINFO or last.
func checkNote(t *testing.T, c *elfcore.ELF, n elfnote.Note) {
	t.Helper()
	s := c.Notes()
	i, ok := s.Find(n.Name, n.Type)
	if !ok {
		t.Fatal("the note is not there")
	}
	got, err := s.Note(i, 1<<20)
	if err != nil || !got.Equal(n) {
		t.Errorf("the note is another one (%v)", err)
	}
	if i != len(s.Notes)-1 && (i == 0 || s.Notes[i-1].Name != elfnote.VMCoreInfo) {
		t.Errorf("the note is number %d of %d, neither last nor after VMCOREINFO", i, len(s.Notes))
	}
	if s.Fill != s.Size {
		t.Error("zero fill after the notes")
	}
}

// checkFindings makes sure that a change leaves no reader worse off.
func checkFindings(t *testing.T, after, before *elfcore.ELF) {
	t.Helper()
	if a, b := testdumps.WithoutTables(after.Verify()), testdumps.WithoutTables(before.Verify()); len(a) > len(b) {
		t.Errorf("verify finds %v, and before %v", a, b)
	}
}
