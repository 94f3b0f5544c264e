package vmcore

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// TestFlatWriter: however it is written to, the same records come out.
func TestFlatWriter(t *testing.T) {
	plain := bytes.Repeat([]byte("0123456789abcde"), 10000)
	want := flatOf(inRecords(plain, flat.BodySize)...)
	for _, piece := range []int{len(plain), 1, 7, 4096, flat.BodySize, flat.BodySize + 1} {
		var b bytes.Buffer
		w := flat.NewWriter(&b)
		for _, r := range inRecords(plain, piece) {
			if n, err := w.Write(r.body); n != len(r.body) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("in pieces of %d bytes it is another dump", piece)
		}
	}
	var b bytes.Buffer
	if err := flat.NewWriter(&b).Close(); err != nil || !bytes.Equal(b.Bytes(), flatOf()) {
		t.Errorf("without a byte: %x, %v", b.Bytes(), err)
	}
}

// failingWriter takes n bytes.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return 0, io.ErrShortWrite
	}
	w.n -= len(p)
	return len(p), nil
}

func TestFlatWriterFails(t *testing.T) {
	for _, n := range []int{0, flat.HeaderSize, flat.HeaderSize + flat.RecordHeader + flat.BodySize, flat.HeaderSize + 2*flat.RecordHeader + flat.BodySize + 1} {
		w := flat.NewWriter(&failingWriter{n})
		_, err := w.Write(make([]byte, flat.BodySize+1))
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestFlattenTo: what comes of a flattened dump by way of a Layout is, put
// together or written in plain form at once, the copy of the plain core,
// however the records of the original lay.
func TestFlattenTo(t *testing.T) {
	for _, name := range []string{"kernel-slack", "kernel-full", "tight-small-loads", "sections-after", "overlap", "elf32-lsb", "vmcsinfo"} {
		plain := testcores.Bytes(t, name)
		c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		n := testNote(t, name)
		splices := map[string]elfnote.Splice{"nothing": {}, "inject": c.Notes().Insert(n), "remove last": c.Notes().Remove(len(c.Notes().Notes) - 1)}
		for how, sp := range splices {
			l, err := c.PlanCopy(sp)
			if err != nil {
				t.Fatal(err)
			}
			want := copied(t, l, bytes.NewReader(plain))
			for cut, dump := range map[string][]byte{
				"in order":   flatOf(inRecords(plain, 1000)...),
				"backwards":  flatOf(backwards(inRecords(plain, 4096))...),
				"with holes": flatOf(notZero(inRecords(plain, 64))...),
			} {
				t.Run(name+"/"+how+"/"+cut, func(t *testing.T) {
					f := mustFlat(t, dump)
					l, err := f.PlanCopy(sp)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(copied(t, l, io.NewSectionReader(f, 0, f.PlainSize())), want) {
						t.Error("the plain copy differs")
					}
					var out bytes.Buffer
					if err := flat.Flatten(t.Context(), &out, io.NewSectionReader(f, 0, f.PlainSize()), l); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(out.Bytes(), flatOf(inRecords(want, flat.BodySize)...)) {
						t.Error("the flattened copy differs")
					}
					if got := plainOf(t, mustFlat(t, out.Bytes())); !bytes.Equal(got, want) {
						t.Error("the flattened copy put together differs")
					}
				})
			}
		}
	}
}

// copied carries a layout out.
func copied(t *testing.T, l *Layout, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	s := &plan.Streamer{Ctx: t.Context(), W: &b, R: r, Buf: make([]byte, 1<<10)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// notZero leaves out records of zeros, but for the last.
func notZero(records []record) (out []record) {
	for i, r := range records {
		if i == len(records)-1 || strings.Trim(string(r.body), "\x00") != "" {
			out = append(out, r)
		}
	}
	return out
}

// TestFlattenToEndsEarly: what came is whole in itself, and the error says so.
func TestFlattenToEndsEarly(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-slack")
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.PlanCopy(c.Notes().Insert(testNote(t, "kernel-slack")))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cut := len(plain) - 1000
	err = flat.Flatten(t.Context(), &out, bytes.NewReader(plain[:cut]), l)
	if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), "the copy ends at") {
		t.Errorf("got %v", err)
	}
	if f := mustFlat(t, out.Bytes()); f.PlainSize() != l.Size-1000 {
		t.Errorf("%d bytes came out, want %d", f.PlainSize(), l.Size-1000)
	}
}

// TestFlattenToMemory: a copy costs the same memory, whatever the size.
func TestFlattenToMemory(t *testing.T) {
	const size = 1 << 30
	l := &Layout{Size: size, Pieces: []plan.Piece{{N: size}}}
	before := allocated()
	if err := flat.Flatten(t.Context(), io.Discard, io.LimitReader(plan.ZeroReader{}, size), l); err != nil {
		t.Fatal(err)
	}
	if got := allocated() - before; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}
