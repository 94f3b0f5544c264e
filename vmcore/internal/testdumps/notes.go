package testdumps

import (
	"bytes"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// Allocated returns how many bytes have been allocated so far, exactly: the
// cheaper runtime/metrics leaves out what each processor has not reported yet,
// and reports it at another test's cost.
func Allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// NotesText returns all notes, encoded.
func NotesText(t testing.TB, s *elfnote.Segment) (b []byte) {
	t.Helper()
	for i := range s.Notes {
		n, err := s.Note(i, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, n.Encode(s.Order)...)
	}
	return b
}

// WithoutTables returns the findings but for the remark on VMCOREINFO, whose
// text in tests has no page tables.
func WithoutTables(found []plan.Finding) []plan.Finding {
	return slices.DeleteFunc(found, func(f plan.Finding) bool { return f.Remark && strings.HasPrefix(f.Text, "VMCOREINFO has no line") })
}

// Splices are the changes to notes that the tests try.
var Splices = map[string]func(*elfnote.Segment, elfnote.Note) (elfnote.Splice, bool){
	"inject": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		_, there := s.Find(n.Name, 0)
		return s.Insert(n), !there
	},
	"inject a large one": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		n.Desc = bytes.Repeat(n.Desc, 5000/len(n.Desc)+1)
		return s.Insert(n), true
	},
	"append": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) { return s.Append(n), true },
	"remove VMCOREINFO": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		i, ok := s.Find(elfnote.VMCoreInfo, 0)
		return removal(s, i, ok)
	},
	"remove first": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		return removal(s, 0, len(s.Notes) > 0)
	},
	"remove last": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		return removal(s, len(s.Notes)-1, len(s.Notes) > 0)
	},
	"replace": func(s *elfnote.Segment, n elfnote.Note) (elfnote.Splice, bool) {
		i, ok := s.Find(n.Name, 0)
		if !ok {
			return elfnote.Splice{}, false
		}
		return s.Replace(i, n), true
	},
	"add VMCOREINFO": func(s *elfnote.Segment, _ elfnote.Note) (elfnote.Splice, bool) {
		_, there := s.Find(elfnote.VMCoreInfo, 0)
		return s.Append(elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=new\n")}), !there
	},
}

func removal(s *elfnote.Segment, i int, ok bool) (elfnote.Splice, bool) {
	if !ok {
		return elfnote.Splice{}, false
	}
	return s.Remove(i), true
}

// KDumpNote returns the note to add to a kdump-compressed dump.
func KDumpNote(t testing.TB, name string) elfnote.Note {
	if strings.Contains(name, ".kdump-") {
		return Note(t, name)
	}
	return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=12\nFIELD(GUEST_RIP)=0706\n")}
}

// Copied carries a layout out.
func Copied(t testing.TB, l *plan.Layout, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	b.Grow(int(l.Size))
	s := &plan.Streamer{Ctx: t.Context(), W: &b, R: r, Buf: make([]byte, 1<<10)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
