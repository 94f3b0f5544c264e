package vmcore

import (
	"bytes"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestStreamKDump: a stream gives the file that a copy is.
func TestStreamKDump(t *testing.T) {
	for name, b := range testdumps.AllKDumps(t) {
		for how, splice := range testdumps.Splices {
			if testing.Short() && len(b) > 200<<10 && how != "inject" {
				continue // all changes of the small ones
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c := testdumps.OpenKDump(t, b)
				sp, ok := splice(c.Notes(), testdumps.KDumpNote(t, name))
				if !ok {
					return
				}
				l, err := c.PlanCopy(sp)
				if err != nil {
					t.Fatal(err)
				}
				if streamed := streamKDump(t, b, sp); !bytes.Equal(streamed, testdumps.Copied(t, l, bytes.NewReader(b))) {
					t.Error("a stream gives another file")
				}
			})
		}
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

// TestStreamKDumpEnds: wherever a stream ends, the output is what a copy
// of the truncated file is.
func TestStreamKDumpEnds(t *testing.T) {
	for name, s := range testdumps.KDumps {
		b := s.Build()
		for _, left := range []int64{1, 100, 2000, 20_000, int64(len(b)) - 2*int64(testdumps.OpenKDump(t, b).BlockSize)} {
			part := b[:max(int64(len(b))-left, 0)]
			var out bytes.Buffer
			_, err := Stream(t.Context(), &out, bytes.NewReader(part), func(c Core) (elfnote.Splice, error) {
				return c.Notes().Insert(testdumps.VMCSInfo), nil
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
			l, err := c.PlanCopy(c.Notes().Insert(testdumps.VMCSInfo))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), testdumps.Copied(t, l, bytes.NewReader(part))) {
				t.Errorf("%s: %d bytes missing: a stream gives another file than a copy", name, left)
			}
		}
	}
}
