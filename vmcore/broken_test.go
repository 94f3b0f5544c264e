package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestStreamFlatTruncated: wherever the stream ends, the error says where, and
// what was written has all that came, and no end marker.
func TestStreamFlatTruncated(t *testing.T) {
	for _, name := range flatDumps[1:] {
		dump := testcores.Bytes(t, name)
		all, err := streamed(t, dump, testdumps.VMCSInfo, "inject")
		if err != nil {
			t.Fatal(err)
		}
		want := mustFlat(t, all).View
		bufs := [2][]byte{make([]byte, want.Size), make([]byte, want.Size)}
		at := flat.HeaderSize
		for i, r := range recordsOf(dump) {
			// Of many records, each of the first and some of the others.
			if i > 20 && i%16 != 0 {
				at += flat.RecordHeader + len(r.Body)
				continue
			}
			for _, cut := range []int{at - 1, at, at + 1, at + flat.RecordHeader, at + flat.RecordHeader + len(r.Body)/2} {
				got, err := streamed(t, dump[:cut], testdumps.VMCSInfo, "inject")
				if want := "the stream ends at " + fmt.Sprintf("%#x", cut); !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), want+",") {
					t.Fatalf("%s: got %v, want %q", name, err, want)
				}
				var unwritten *Unwritten
				if errors.As(err, &unwritten) {
					if len(got) > 0 {
						t.Fatalf("%s: %d bytes were written", name, len(got))
					}
					continue
				}
				f, err := openFlat(bytes.NewReader(got), int64(len(got)), opener())
				if err != nil || !f.IsCut() {
					t.Fatalf("%s: %v, or an end marker after %#x bytes", name, err, cut)
				}
				// A table entry that is cut in two is none.
				if lost := cut - len(got); lost > 200 {
					t.Fatalf("%s: %d bytes of %#x are missing", name, lost, cut)
				}
				for _, r := range f.View.Runs {
					a, b := bufs[0][:r.End()-r.Off], bufs[1][:r.End()-r.Off]
					f.View.ReadAt(a, r.Off)
					want.ReadAt(b, r.Off)
					if !bytes.Equal(a, b) {
						t.Fatalf("%s, cut at %#x: other bytes at %#x", name, cut, r.Off)
					}
				}
			}
			at += flat.RecordHeader + len(r.Body)
		}
	}
	if _, err := streamed(t, flat.Header()[:100], testdumps.VMCSInfo, "inject"); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

// TestStreamFlatMemory: however large the dump, it takes no more memory.
func TestStreamFlatMemory(t *testing.T) {
	dump := testcores.Bytes(t, "flat/deb-t1.flat-elf31")
	records := recordsOf(dump)
	front := testdumps.Flat(records[:len(records)-1]...)
	front = front[:len(front)-flat.RecordHeader]
	last := testdumps.Flat(records[len(records)-1])[flat.HeaderSize:]
	end := records[len(records)-2].Off + int64(len(records[len(records)-2].Body))
	const more = 1 << 30
	r := io.MultiReader(bytes.NewReader(front), bytes.NewReader(testdumps.RecordHeader(end, more)), io.LimitReader(plan.ZeroReader{}, more), bytes.NewReader(last))
	peak := &peakWriter{}
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := streamFlat(t.Context(), peak, &head{r: r}, func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testdumps.VMCSInfo), nil }); err != nil {
		t.Fatal(err)
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if peak.n < more {
		t.Errorf("%d bytes came out", peak.n)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

type peakWriter struct{ n int64 }

func (w *peakWriter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	return len(b), nil
}

// TestStreamFlatErrors: what fails is told, and does not end the dump.
func TestStreamFlatErrors(t *testing.T) {
	dump := testcores.Bytes(t, "flat/cloud-c1.flat-elf31")
	edit := func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testdumps.VMCSInfo), nil }
	boom := errors.New("boom")
	if _, err := streamFlat(t.Context(), &testdumps.FailingWriter{N: 1 << 20}, &head{r: bytes.NewReader(dump)}, edit); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("writing: %v", err)
	}
	if _, err := streamFlat(t.Context(), io.Discard, &head{r: io.MultiReader(bytes.NewReader(dump[:1<<20]), iotest.ErrReader(boom))}, edit); !errors.Is(err, boom) {
		t.Errorf("reading: %v", err)
	}
	var out bytes.Buffer
	if _, err := streamFlat(t.Context(), &out, &head{r: bytes.NewReader(dump)}, func(Core) (elfnote.Splice, error) { return elfnote.Splice{}, boom }); !errors.Is(err, boom) || out.Len() > 0 {
		t.Errorf("the edit: %v, and %d bytes", err, out.Len())
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	if _, err := streamFlat(ctx, io.Discard, &head{r: bytes.NewReader(dump)}, edit); !errors.Is(err, boom) {
		t.Errorf("the context: %v", err)
	}
	huge := append(flat.Header(), testdumps.RecordHeader(0, 1<<62)...)
	if _, err := streamFlat(t.Context(), &out, &head{r: io.MultiReader(bytes.NewReader(huge), plan.ZeroReader{})}, edit); err == nil || !errors.Is(err, ErrOnePass) || out.Len() > 0 {
		t.Errorf("a huge record: %v", err)
	}
	for name, records := range map[string][]testdumps.Record{"twice flattened": {testdumps.At(0, testdumps.Flat())}, "no dump": {testdumps.At(0, []byte("hello"))}, "nothing": nil} {
		if _, err := streamFlat(t.Context(), &out, &head{r: bytes.NewReader(testdumps.Flat(records...))}, edit); err == nil || !strings.Contains(err.Error(), "in the plain form: ") || out.Len() > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStreamFlatBroken: from a damaged record on a stream can be passed on as
// it came, and nothing that came before is lost.
func TestStreamFlatBroken(t *testing.T) {
	dump := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	records := recordsOf(dump)
	all, err := streamed(t, dump, testdumps.VMCSInfo, "inject")
	if err != nil {
		t.Fatal(err)
	}
	at := int64(flat.HeaderSize)
	for i, r := range records {
		size := int64(flat.RecordHeader + len(r.Body))
		for _, bad := range [][]byte{testdumps.RecordHeader(r.Off, 0), testdumps.RecordHeader(-5, 1), testdumps.RecordHeader(math.MaxInt64, 2)} {
			b := bytes.Clone(dump)
			copy(b[at:], bad)
			got, err := streamed(t, b, testdumps.VMCSInfo, "inject")
			var unwritten *Unwritten
			var broken *Broken
			switch {
			case errors.As(err, &unwritten):
				if len(got) > 0 {
					t.Fatalf("record %d: %d bytes were written", i, len(got))
				}
				continue
			case !errors.As(err, &broken) || broken.At != at:
				t.Fatalf("record %d at %#x: error is %v, want Broken there", i, at, err)
			case !bytes.HasPrefix(all, got):
				t.Fatalf("record %d: what was written is not the beginning of the copy", i)
			}
			var rest bytes.Buffer
			if err := broken.PassOn(t.Context(), &rest); err != nil || !bytes.Equal(rest.Bytes(), b[at:]) {
				t.Fatalf("record %d: %d bytes were passed on, want %d (%v)", i, rest.Len(), len(b)-int(at), err)
			}
		}
		at += size
	}
	if at != int64(len(dump)-flat.RecordHeader) || at < 600_000 {
		t.Errorf("only %#x bytes were tried", at)
	}
}

// TestStreamFlatManyRecords: a head of small records that do not follow one
// another is not sorted for each record.
func TestStreamFlatManyRecords(t *testing.T) {
	s := testdumps.KDump{SubBlocks: 50}
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: bytes.Repeat([]byte{1}, 150_000)}
	plain := s.Build()
	c := testdumps.OpenKDump(t, plain)
	notes := c.NotesOff() + c.Notes().Size
	records := []testdumps.Record{testdumps.At(0, plain[:notes])}
	for off := notes; off < c.BitmapOff(); off += 8 { // each with 4 bytes that no record has
		records = append(records, testdumps.At(off, plain[off:off+4]))
	}
	records = append(records, testdumps.At(c.BitmapOff(), plain[c.BitmapOff():]))
	before := testdumps.Allocated()
	got, err := streamed(t, testdumps.Flat(records...), n, "inject")
	if err != nil || !bytes.Equal(testdumps.Rearranged(t, got), copyOf(t, plain, n, "inject")) {
		t.Errorf("not what -o gives (%v)", err)
	}
	if got := testdumps.Allocated() - before; got > 64<<20 {
		t.Errorf("%d bytes allocated for %d records", got, len(records))
	}
}

// TestStreamFlatOneRecord: descriptors and page data come in one record whose
// size is damaged, so that all the rest of the file is its own. The bitmap, not
// the order of the records, tells where the descriptors end: bytes of page data
// taken for descriptors would be changed.
func TestStreamFlatOneRecord(t *testing.T) {
	dump := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	was := mustFlat(t, dump)
	descs := was.Core.(kdumpCore).Dump.DescOff()
	damaged := dump[:flat.HeaderSize:flat.HeaderSize]
	for _, r := range recordsOf(dump) {
		if r.Off < descs {
			damaged = append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(damaged, uint64(r.Off)), uint64(len(r.Body))), r.Body...)
		}
	}
	damaged = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(damaged, uint64(descs)), 1<<40)
	damaged = append(damaged, plainOf(t, was)[descs:]...)
	got, err := streamed(t, damaged, testdumps.VMCSInfo, "inject")
	if !errors.Is(err, ErrTruncated) {
		t.Fatalf("got %v, want a stream that is cut", err)
	}
	now := mustFlat(t, got)
	pages := 0
	for r := range was.Ranges() {
		a, b := make([]byte, r.Size), make([]byte, r.Size)
		was.ReadPhys(a, r.Addr)
		if _, err := now.ReadPhys(b, r.Addr); err != nil || !bytes.Equal(a, b) {
			t.Fatalf("memory at %#x is not what it was (%v)", r.Addr, err)
		}
		pages += int(r.Size / plan.PageSize)
	}
	if pages == 0 {
		t.Fatal("no memory was compared")
	}
}
