package vmcore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
)

// goldenCores are all cores that a note can be added to: those made of text,
// and the real ones but for those with more memory in them than is looked at.
func goldenCores(t testing.TB) []string {
	var names []string
	for _, n := range testcores.Names(t, "*") {
		if !strings.HasPrefix(n, "bad-") && !strings.HasSuffix(n, ".blob") &&
			!strings.HasSuffix(n, ".mdf") && !strings.HasSuffix(n, ".dmesg") && n != "vmcsinfo" {
			names = append(names, n)
		}
	}
	return names
}

// testNote returns the note to add: the kernel's own for a real core.
func testNote(t testing.TB, core string) elfnote.Note {
	if strings.Contains(core, ".") && !strings.HasPrefix(core, "deb-t8") {
		n, err := elfnote.FromBlob(testcores.Blob(t, core), elfnote.VMCSInfo, 0, binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_ES_SELECTOR)=0500\nFIELD(GUEST_CS_SELECTOR)=0502\n" +
		strings.Repeat("FIELD(GUEST_RIP)=0718071607140712\n", 20))}
}

// sum is what must survive a change: all notes but VMCSINFO, and each PT_LOAD
// with its memory.
type sum struct {
	notes []byte
	loads []loadSum
}

type loadSum struct {
	vaddr, paddr, filesz, memsz uint64
	held                        int64 // bytes that the file holds
	crc                         uint32
}

func summarize(t testing.TB, c *elfcore.ELF, skip string) sum {
	t.Helper()
	var s sum
	buf := make([]byte, 64<<10) // many dumps are small, and many are summarized
	for i, e := range c.Notes().Notes {
		if e.Name == skip {
			continue
		}
		n, err := c.Notes().Note(i, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		s.notes = append(s.notes, n.Encode(c.Order)...)
	}
	for i, p := range c.Progs {
		if i == c.Note {
			continue
		}
		l := loadSum{p.Vaddr, p.Paddr, p.Filesz, p.Memsz, int64(plan.Extent{Off: p.Off, Size: p.Filesz}.Clip(c.Size)), 0}
		h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		if len(c.Progs) < 1000 { // tens of thousands of mappings of the same pages are looked at in golden files
			if _, err := io.CopyBuffer(plan.OnlyWriter{Writer: h}, io.NewSectionReader(c.R, int64(p.Off), l.held), buf); err != nil {
				t.Fatal(err)
			}
		}
		l.crc = h.Sum32()
		s.loads = append(s.loads, l)
	}
	return s
}

func (s sum) diff(o sum) error {
	if !bytes.Equal(s.notes, o.notes) {
		return errors.New("notes differ")
	}
	if len(s.loads) != len(o.loads) {
		return errors.Errorf("%d PT_LOADs, want %d", len(s.loads), len(o.loads))
	}
	for i := range s.loads {
		if s.loads[i] != o.loads[i] {
			return errors.Errorf("segment %d is %+v, want %+v", i, s.loads[i], o.loads[i])
		}
	}
	return nil
}

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
	for _, name := range goldenCores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, out := testcores.Open(t, name), filepath.Join(t.TempDir(), "out")
			n := testNote(t, name)
			f := mustOpen(t, path, OpenFile)
			if _, err := f.CopyTo(t.Context(), out, f.Notes().Insert(n), CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			testcores.Golden(t, out, name+".copy")
			changed := mustOpen(t, out, OpenFile)
			checkNote(t, elfOf(changed), n)
			if err := summarize(t, elfOf(changed), n.Name).diff(summarize(t, elfOf(f), "")); err != nil {
				t.Error(err)
			}
			checkFindings(t, elfOf(changed), elfOf(f))

			back := filepath.Join(t.TempDir(), "back")
			i, _ := changed.Notes().Find(n.Name, 0)
			if _, err := changed.CopyTo(t.Context(), back, changed.Notes().Remove(i), CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			testcores.Same(t, back, name)

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

// TestGoldenInPlace carries every placement out that can be had, compares with
// the golden file, and takes the note out again.
func TestGoldenInPlace(t *testing.T) {
	for _, name := range goldenCores(t) {
		for _, pl := range []Placement{Slack, End, Evict, Copy} {
			t.Run(name+"/"+string(pl), func(t *testing.T) {
				t.Parallel()
				path := testcores.Open(t, name)
				n := testNote(t, name)
				f := mustOpen(t, path, OpenFileRW)
				before, original := summarize(t, elfOf(f), ""), elfOf(f)
				only := pl
				p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), only)
				if errors.Is(err, ErrNoPlace) {
					// Not every core has the room; which do, the golden files say.
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
				if err := summarize(t, elfOf(f), n.Name).diff(before); err != nil {
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
				if err := summarize(t, elfOf(f), "").diff(before); err != nil {
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
	if a, b := withoutTables(after.Verify()), withoutTables(before.Verify()); len(a) > len(b) {
		t.Errorf("verify finds %v, and before %v", a, b)
	}
}
