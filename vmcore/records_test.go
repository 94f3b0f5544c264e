package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
)

// flatDumps were written by makedumpfile -F.
var flatDumps = []string{"flat/deb-t1.flat-elf31", "flat/cloud-c1.flat-elf31", "flat/cloud-c1.flat-zlib"}

// recordsOf returns the records of a flattened dump.
func recordsOf(dump []byte) (records []record) {
	for b := dump[flat.HeaderSize:]; ; {
		off, size := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
		if off < 0 {
			return records
		}
		records = append(records, record{off, b[flat.RecordHeader:][:size]})
		b = b[flat.RecordHeader+size:]
	}
}

// complete reports whether a flattened dump has its end marker.
func complete(dump []byte) bool {
	f, err := openFlat(bytes.NewReader(dump), int64(len(dump)), opener())
	return err == nil && !f.IsCut()
}

// edits are what the tests do to the notes.
var edits = map[string]func(*elfnote.Segment, elfnote.Note) elfnote.Splice{
	"nothing": func(*elfnote.Segment, elfnote.Note) elfnote.Splice { return elfnote.Splice{} },
	"inject":  func(s *elfnote.Segment, n elfnote.Note) elfnote.Splice { return s.Insert(n) },
	"remove": func(s *elfnote.Segment, _ elfnote.Note) elfnote.Splice {
		if len(s.Notes) == 0 {
			return elfnote.Splice{}
		}
		return s.Remove(len(s.Notes) - 1)
	},
}

// streamed returns what streamFlat writes, and its error.
func streamed(t testing.TB, dump []byte, n elfnote.Note, edit string) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	calls := 0
	_, err := streamFlat(t.Context(), &out, &head{r: bytes.NewReader(dump)}, func(c Core) (elfnote.Splice, error) {
		calls++
		return edits[edit](c.Notes(), n), nil
	})
	if calls > 1 {
		t.Errorf("the edit was asked %d times", calls)
	}
	return out.Bytes(), err
}

// copyOf returns what -o gives for the plain form.
func copyOf(t testing.TB, plain []byte, n elfnote.Note, edit string) []byte {
	t.Helper()
	c, err := Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.PlanCopy(edits[edit](c.Notes(), n))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	s := &plan.Streamer{Ctx: t.Context(), W: &b, R: bytes.NewReader(plain), Buf: make([]byte, 1<<10)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// headLast cuts an ELF core as makedumpfile -E does: the header, notes, memory,
// and then the program headers in records that end anywhere, before the last of
// memory.
func headLast(t testing.TB, plain []byte, size int) []record {
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	table, end := int64(c.Phoff), int64(c.Phoff+c.Phnum*c.Phentsize)
	notes := c.NotesOff() + c.Notes().Size
	records := []record{{0, plain[:table]}, {c.NotesOff(), plain[c.NotesOff():notes]}}
	for _, r := range inRecords(plain[notes:], size) {
		records = append(records, record{r.off + notes, r.body})
	}
	last := records[len(records)-1]
	records = records[:len(records)-1]
	for _, r := range inRecords(plain[table:end], 77) {
		records = append(records, record{r.off + table, r.body})
	}
	return append(records, last)
}

// TestStreamFlat: put together, what comes out is what -o gives for the plain
// form, however the records come.
func TestStreamFlat(t *testing.T) {
	cores := map[string][]byte{}
	for _, name := range []string{"kernel-slack", "kernel-full", "tight-small-loads", "tight-filtered", "sections-after", "sections-before", "overlap", "elf32-lsb", "elf32-msb",
		"vmcsinfo", "no-load", "offset-minus1", "loads-unordered", "xnum-after", "xnum-few", "phoff-odd", "single-load"} {
		cores[name] = testcores.Bytes(t, name)
	}
	maps.Copy(cores, kdumpCores(t))
	for name, plain := range cores {
		n := testVMCSInfo
		tail := inRecords(plain, 1000)
		cuts := map[string][]record{
			"at once":     {{0, plain}},
			"in order":    inRecords(plain, flat.BodySize),
			"small":       inRecords(plain, 1000),
			"backwards":   backwards(inRecords(plain, 4096)),
			"with holes":  notZero(inRecords(plain, 64)),
			"last thrice": append(tail, tail[len(tail)-1], tail[len(tail)-1]),
		}
		for edit := range edits {
			want := copyOf(t, plain, n, edit)
			for cut, records := range cuts {
				if cut == "with holes" && plain[len(plain)-1] == 0 {
					records = append(records, record{int64(len(plain)) - 1, []byte{0}})
				}
				got, err := streamed(t, flatOf(records...), n, edit)
				if err != nil {
					if name != "sections-after" || edit != "remove" || !strings.Contains(err.Error(), "too late") {
						t.Errorf("%s, %s, %s: %v", name, edit, cut, err)
					}
				} else if !bytes.Equal(rearranged(t, got), want) {
					t.Errorf("%s, %s, %s: not what -o gives", name, edit, cut)
				}
			}
		}
	}
}

// TestStreamFlatReal: dumps by makedumpfile -F pass in one go.
func TestStreamFlatReal(t *testing.T) {
	for _, name := range flatDumps {
		dump := testcores.Bytes(t, name)
		n, err := elfnote.FromBlob(testcores.Blob(t, strings.TrimPrefix(name, "flat/")), elfnote.VMCSInfo, 0, binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		plain := rearranged(t, dump)
		for edit := range edits {
			want := copyOf(t, plain, n, edit)
			got, err := streamed(t, dump, n, edit)
			if err != nil {
				t.Errorf("%s, %s: %v", name, edit, err)
				continue
			}
			if !bytes.Equal(rearranged(t, got), want) {
				t.Errorf("%s, %s: not what -o gives", name, edit)
			}
			in, out := recordsOf(dump), recordsOf(got)
			if out[0].off != 0 || out[len(out)-1].off < in[len(in)-1].off || len(out) > len(in)+40 {
				t.Errorf("%s, %s: %d records became %d, of another order", name, edit, len(in), len(out))
			}
		}
	}
}

// TestStreamFlatHeadLast: program headers come last, in parts.
func TestStreamFlatHeadLast(t *testing.T) {
	plain := rearranged(t, testcores.Bytes(t, "flat/deb-t1.flat-elf31"))
	n := testVMCSInfo
	for edit := range edits {
		dump := flatOf(headLast(t, plain, 50_000)...)
		var out bytes.Buffer
		p := &probe{r: bytes.NewReader(dump)}
		_, err := streamFlat(t.Context(), &out, &head{r: p}, func(c Core) (elfnote.Splice, error) {
			if p.n > 1<<20 {
				t.Errorf("%d bytes were read before the notes were known", p.n)
			}
			return edits[edit](c.Notes(), n), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(rearranged(t, out.Bytes()), copyOf(t, plain, n, edit)) {
			t.Errorf("%s: not what -o gives", edit)
		}
	}
}

// probe counts what is read.
type probe struct {
	r io.Reader
	n int64
}

func (p *probe) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

// TestStreamFlatWrong: what turns out otherwise than it seemed is an error, and
// has no end marker.
func TestStreamFlatWrong(t *testing.T) {
	plain := rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-elf31"))
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	notes, size := c.NotesOff(), c.Notes().Size
	order := headLast(t, plain, flat.BodySize)
	change := func(off int64, b ...byte) []record { return append(headLast(t, plain, flat.BodySize), record{off, b}) }
	le := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	phdr := func(i int, at uintptr) int64 { return c.ProgOff(i) + int64(at) }
	kdump := recordsOf(testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	for _, tc := range []struct {
		name    string
		records []record
		want    string
	}{
		{"the notes are longer", change(phdr(0, elfcore.Layout64.PFilesz), le(size+4)...), "cannot be changed in one pass: "},
		{"the notes are shorter", change(phdr(0, elfcore.Layout64.PFilesz), le(size-4)...), "cannot be changed in one pass: "},
		{"the notes are elsewhere", change(phdr(0, elfcore.Layout64.POff), le(notes+4)...), "cannot be changed in one pass: "},
		{"another is the PT_NOTE", change(phdr(0, 0), 1), "one PT_NOTE"},
		{"two PT_NOTEs", change(phdr(1, 0), 4), "two PT_NOTEs"},
		{"a PT_LOAD in the notes", change(phdr(2, elfcore.Layout64.POff), le(notes+size-1)...), "cannot be changed in one pass: "},
		{"the notes change", change(notes+20, 'X'), "those that have passed"},
		{"the header changes", change(int64(elfcore.Layout64.EPhnum), 3), "cannot be changed in one pass: "},
		{"a hole of an exabyte", change(1<<60, 1), "bytes that no record holds"},
		{"no program headers", order[:2], ""},
		{"a part of a descriptor comes again", append(append([]record{}, kdump...), record{0x6000, []byte{1}}), "page descriptor at offset 0x6000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := streamed(t, flatOf(tc.records...), testVMCSInfo, "inject")
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrTruncated) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if complete(got) {
				t.Error("it has an end marker")
			}
		})
	}
}

// TestStreamFlatLater: a later record wins, in headers and after them.
func TestStreamFlatLater(t *testing.T) {
	plain := rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-elf31"))
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	kdump := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	unpacked := rearranged(t, kdump)
	k := openKDump(t, unpacked)
	sub := bytes.Clone(unpacked[k.SubOff():][:k.ABI.SubSize])
	k.PutExtent(sub[k.ABI.Erase:], plan.Extent{Off: uint64(len(unpacked)), Size: 5})
	for _, tc := range []struct {
		name    string
		records []record
	}{
		{"a program header", append(headLast(t, plain, flat.BodySize), record{c.ProgOff(3) + 24, []byte{1, 2, 3}})},
		{"e_flags", append(headLast(t, plain, flat.BodySize), record{int64(elfcore.Layout64.EFlags), []byte{elfcore.Incomplete}})},
		{"memory", append(headLast(t, plain, flat.BodySize), record{0x1ff00, bytes.Repeat([]byte("x"), 3000)})},
		{"eraseinfo and the sub header", append(recordsOf(kdump), record{int64(len(unpacked)), []byte("erase")}, record{k.SubOff(), sub})},
	} {
		dump := flatOf(tc.records...)
		got, err := streamed(t, dump, testVMCSInfo, "inject")
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if !bytes.Equal(rearranged(t, got), copyOf(t, rearranged(t, dump), testVMCSInfo, "inject")) {
			t.Errorf("%s: not what -o gives", tc.name)
		}
	}
}

// TestStreamFlatShuffled: however records are cut, and whatever they say twice,
// there is the right copy or an error, and the latter without an end marker.
func TestStreamFlatShuffled(t *testing.T) {
	for _, name := range []string{"kernel-slack", "tight-small-loads", "sections-after", "elf32-msb", "overlap", "no-load"} {
		plain := testcores.Bytes(t, name)
		done := 0
		for seed := range uint64(150) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var records []record
			for off := 0; off < len(plain); {
				n := min(1+rnd.IntN(1+rnd.IntN(9000)), len(plain)-off)
				records = append(records, record{int64(off), plain[off : off+n]})
				off += n
			}
			for range rnd.IntN(10) { // the more, the more out of order
				i, j := rnd.IntN(len(records)), rnd.IntN(len(records))
				records[i], records[j] = records[j], records[i]
			}
			if seed%2 == 1 { // and what is wrong before it is right
				r := records[rnd.IntN(len(records))]
				i := rnd.IntN(3)
				records = append([]record{{r.off, bytes.Repeat([]byte{0xa5}, len(r.body))}}, records...)
				records[0], records[min(i, len(records)-1)] = records[min(i, len(records)-1)], records[0]
			}
			dump := flatOf(records...)
			for edit := range edits {
				got, err := streamed(t, dump, testVMCSInfo, edit)
				if err != nil {
					if complete(got) {
						t.Fatalf("%s, %d, %s: an error (%v), and an end marker", name, seed, edit, err)
					}
					continue
				}
				done++
				if !bytes.Equal(rearranged(t, got), copyOf(t, rearranged(t, dump), testVMCSInfo, edit)) {
					t.Fatalf("%s, %d, %s: not what -o gives", name, seed, edit)
				}
			}
		}
		if done < 250 {
			t.Errorf("%s: %d of 450 passed", name, done)
		}
	}
}

// TestStreamFlatTruncated: wherever the stream ends, the error says where, and
// what was written has all that came, and no end marker.
func TestStreamFlatTruncated(t *testing.T) {
	for _, name := range flatDumps[1:] {
		dump := testcores.Bytes(t, name)
		all, err := streamed(t, dump, testVMCSInfo, "inject")
		if err != nil {
			t.Fatal(err)
		}
		want := mustFlat(t, all).View
		at := flat.HeaderSize
		for i, r := range recordsOf(dump) {
			// Of many records, each of the first and some of the others.
			if testing.Short() && i > 20 && i%16 != 0 {
				at += flat.RecordHeader + len(r.body)
				continue
			}
			for _, cut := range []int{at - 1, at, at + 1, at + flat.RecordHeader, at + flat.RecordHeader + len(r.body)/2} {
				got, err := streamed(t, dump[:cut], testVMCSInfo, "inject")
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
					a, b := make([]byte, r.End()-r.Off), make([]byte, r.End()-r.Off)
					f.View.ReadAt(a, r.Off)
					want.ReadAt(b, r.Off)
					if !bytes.Equal(a, b) {
						t.Fatalf("%s, cut at %#x: other bytes at %#x", name, cut, r.Off)
					}
				}
			}
			at += flat.RecordHeader + len(r.body)
		}
	}
	if _, err := streamed(t, flat.Header()[:100], testVMCSInfo, "inject"); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

// TestStreamFlatMemory: however large the dump, it takes no more memory.
func TestStreamFlatMemory(t *testing.T) {
	dump := testcores.Bytes(t, "flat/deb-t1.flat-elf31")
	records := recordsOf(dump)
	front := flatOf(records[:len(records)-1]...)
	front = front[:len(front)-flat.RecordHeader]
	last := flatOf(records[len(records)-1])[flat.HeaderSize:]
	end := records[len(records)-2].off + int64(len(records[len(records)-2].body))
	const more = 1 << 30
	r := io.MultiReader(bytes.NewReader(front), bytes.NewReader(recordHeader(end, more)), io.LimitReader(plan.ZeroReader{}, more), bytes.NewReader(last))
	peak := &peakWriter{}
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := streamFlat(t.Context(), peak, &head{r: r}, func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testVMCSInfo), nil }); err != nil {
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
	edit := func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testVMCSInfo), nil }
	boom := errors.New("boom")
	if _, err := streamFlat(t.Context(), &failingWriter{1 << 20}, &head{r: bytes.NewReader(dump)}, edit); !errors.Is(err, io.ErrShortWrite) {
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
	huge := append(flat.Header(), recordHeader(0, 1<<62)...)
	if _, err := streamFlat(t.Context(), &out, &head{r: io.MultiReader(bytes.NewReader(huge), plan.ZeroReader{})}, edit); err == nil || !errors.Is(err, ErrOnePass) || out.Len() > 0 {
		t.Errorf("a huge record: %v", err)
	}
	for name, records := range map[string][]record{"twice flattened": {{0, flatOf()}}, "no dump": {{0, []byte("hello")}}, "nothing": nil} {
		if _, err := streamFlat(t.Context(), &out, &head{r: bytes.NewReader(flatOf(records...))}, edit); err == nil || !strings.Contains(err.Error(), "in the plain form: ") || out.Len() > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStreamFlatBroken: from a damaged record on a stream can be passed on as it
// came, and nothing that came before is lost.
func TestStreamFlatBroken(t *testing.T) {
	dump := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	records := recordsOf(dump)
	all, err := streamed(t, dump, testVMCSInfo, "inject")
	if err != nil {
		t.Fatal(err)
	}
	at := int64(flat.HeaderSize)
	for i, r := range records {
		size := int64(flat.RecordHeader + len(r.body))
		for _, bad := range [][]byte{recordHeader(r.off, 0), recordHeader(-5, 1), recordHeader(math.MaxInt64, 2)} {
			b := bytes.Clone(dump)
			copy(b[at:], bad)
			got, err := streamed(t, b, testVMCSInfo, "inject")
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
	s := kdumpSpec{subBlocks: 50}
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: bytes.Repeat([]byte{1}, 150_000)}
	plain := s.build()
	c := openKDump(t, plain)
	notes := c.NotesOff() + c.Notes().Size
	records := []record{{0, plain[:notes]}}
	for off := notes; off < c.BitmapOff(); off += 8 { // each with 4 bytes that no record has
		records = append(records, record{off, plain[off : off+4]})
	}
	records = append(records, record{c.BitmapOff(), plain[c.BitmapOff():]})
	before := allocated()
	got, err := streamed(t, flatOf(records...), n, "inject")
	if err != nil || !bytes.Equal(rearranged(t, got), copyOf(t, plain, n, "inject")) {
		t.Errorf("not what -o gives (%v)", err)
	}
	if got := allocated() - before; got > 64<<20 {
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
		if r.off < descs {
			damaged = append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(damaged, uint64(r.off)), uint64(len(r.body))), r.body...)
		}
	}
	damaged = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(damaged, uint64(descs)), 1<<40)
	damaged = append(damaged, plainOf(t, was)[descs:]...)
	got, err := streamed(t, damaged, testVMCSInfo, "inject")
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
