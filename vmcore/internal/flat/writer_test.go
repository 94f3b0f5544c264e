package flat_test

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
	"vmcsnote/vmcore/internal/testdumps"
)

// TestWriter: however it is written to, the same records come out.
func TestWriter(t *testing.T) {
	plain := bytes.Repeat([]byte("0123456789abcde"), 10000)
	want := testdumps.Flat(testdumps.InRecords(plain, flat.BodySize)...)
	for _, piece := range []int{len(plain), 1, 7, 4096, flat.BodySize, flat.BodySize + 1} {
		var b bytes.Buffer
		w := flat.NewWriter(&b)
		for _, r := range testdumps.InRecords(plain, piece) {
			if n, err := w.Write(r.Body); n != len(r.Body) || err != nil {
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
	if err := flat.NewWriter(&b).Close(); err != nil || !bytes.Equal(b.Bytes(), testdumps.Flat()) {
		t.Errorf("without a byte: %x, %v", b.Bytes(), err)
	}
}

func TestWriterFails(t *testing.T) {
	for _, n := range []int{0, flat.HeaderSize, flat.HeaderSize + flat.RecordHeader + flat.BodySize, flat.HeaderSize + 2*flat.RecordHeader + flat.BodySize + 1} {
		w := flat.NewWriter(&testdumps.FailingWriter{N: n})
		_, err := w.Write(make([]byte, flat.BodySize+1))
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestFlatten: what comes of a flattened dump by way of a Layout is, put
// together or written in plain form at once, the copy of the plain core,
// however the records of the original lay.
func TestFlatten(t *testing.T) {
	for _, name := range []string{"kernel-slack", "kernel-full", "tight-small-loads", "sections-after", "overlap", "elf32-lsb", "vmcsinfo"} {
		plain := testcores.Bytes(t, name)
		c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		n := testdumps.Note(t, name)
		splices := map[string]elfnote.Splice{"nothing": {}, "inject": c.Notes().Insert(n), "remove last": c.Notes().Remove(len(c.Notes().Notes) - 1)}
		for how, sp := range splices {
			l, err := c.PlanCopy(sp)
			if err != nil {
				t.Fatal(err)
			}
			want := testdumps.Copied(t, l, bytes.NewReader(plain))
			for cut, dump := range map[string][]byte{
				"in order":   testdumps.Flat(testdumps.InRecords(plain, 1000)...),
				"backwards":  testdumps.Flat(testdumps.Backwards(testdumps.InRecords(plain, 4096))...),
				"with holes": testdumps.Flat(testdumps.NotZero(testdumps.InRecords(plain, 64))...),
			} {
				t.Run(name+"/"+how+"/"+cut, func(t *testing.T) {
					f := mustOpen(t, dump)
					c, err := elfcore.Open(f, f.View.Size)
					if err != nil {
						t.Fatal(err)
					}
					l, err := c.PlanCopy(sp)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(testdumps.Copied(t, l, io.NewSectionReader(f, 0, f.View.Size)), want) {
						t.Error("the plain copy differs")
					}
					var out bytes.Buffer
					if err := flat.Flatten(t.Context(), &out, io.NewSectionReader(f, 0, f.View.Size), l); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(out.Bytes(), testdumps.Flat(testdumps.InRecords(want, flat.BodySize)...)) {
						t.Error("the flattened copy differs")
					}
					if got := plainOf(t, mustOpen(t, out.Bytes())); !bytes.Equal(got, want) {
						t.Error("the flattened copy put together differs")
					}
				})
			}
		}
	}
}

// TestFlattenEndsEarly: what came is whole in itself, and the error says so.
func TestFlattenEndsEarly(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-slack")
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.PlanCopy(c.Notes().Insert(testdumps.Note(t, "kernel-slack")))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cut := len(plain) - 1000
	err = flat.Flatten(t.Context(), &out, bytes.NewReader(plain[:cut]), l)
	if !errors.Is(err, plan.ErrTruncated) || !strings.Contains(err.Error(), "the copy ends at") {
		t.Errorf("got %v", err)
	}
	if f := mustOpen(t, out.Bytes()); f.View.Size != l.Size-1000 {
		t.Errorf("%d bytes came out, want %d", f.View.Size, l.Size-1000)
	}
}

// TestFlattenMemory: a copy costs the same memory, whatever the size.
func TestFlattenMemory(t *testing.T) {
	const size = 1 << 30
	l := &plan.Layout{Size: size, Pieces: []plan.Piece{{N: size}}}
	before := testdumps.Allocated()
	if err := flat.Flatten(t.Context(), io.Discard, io.LimitReader(plan.ZeroReader{}, size), l); err != nil {
		t.Fatal(err)
	}
	if got := testdumps.Allocated() - before; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}
