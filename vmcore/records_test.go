package vmcore

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
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

// flatDumps were written by makedumpfile -F.
var flatDumps = []string{"flat/deb-t1.flat-elf31", "flat/cloud-c1.flat-elf31", "flat/cloud-c1.flat-zlib"}

// recordsOf returns the records of a flattened dump.
func recordsOf(dump []byte) (records []testdumps.Record) {
	for b := dump[flat.HeaderSize:]; ; {
		off, size := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
		if off < 0 {
			return records
		}
		records = append(records, testdumps.At(off, b[flat.RecordHeader:][:size]))
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
	out.Grow(len(dump) + 64<<10)
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
func headLast(t testing.TB, plain []byte, size int) []testdumps.Record {
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	table, end := int64(c.Phoff), int64(c.Phoff+c.Phnum*c.Phentsize)
	notes := c.NotesOff() + c.Notes().Size
	records := []testdumps.Record{testdumps.At(0, plain[:table]), testdumps.At(c.NotesOff(), plain[c.NotesOff():notes])}
	for _, r := range testdumps.InRecords(plain[notes:], size) {
		records = append(records, testdumps.At(r.Off+notes, r.Body))
	}
	last := records[len(records)-1]
	records = records[:len(records)-1]
	for _, r := range testdumps.InRecords(plain[table:end], 77) {
		records = append(records, testdumps.At(r.Off+table, r.Body))
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
	maps.Copy(cores, testdumps.AllKDumps(t))
	for name, plain := range cores {
		n := testdumps.VMCSInfo
		tail := testdumps.InRecords(plain, 1000)
		cuts := map[string][]testdumps.Record{
			"at once":     {testdumps.At(0, plain)},
			"in order":    testdumps.InRecords(plain, flat.BodySize),
			"small":       testdumps.InRecords(plain, 1000),
			"backwards":   testdumps.Backwards(testdumps.InRecords(plain, 4096)),
			"with holes":  testdumps.NotZero(testdumps.InRecords(plain, 64)),
			"last thrice": append(tail, tail[len(tail)-1], tail[len(tail)-1]),
		}
		for edit := range edits {
			want := copyOf(t, plain, n, edit)
			for cut, records := range cuts {
				if cut == "with holes" && plain[len(plain)-1] == 0 {
					records = append(records, testdumps.At(int64(len(plain))-1, []byte{0}))
				}
				got, err := streamed(t, testdumps.Flat(records...), n, edit)
				if err != nil {
					if name != "sections-after" || edit != "remove" || !strings.Contains(err.Error(), "too late") {
						t.Errorf("%s, %s, %s: %v", name, edit, cut, err)
					}
				} else if !bytes.Equal(testdumps.Rearranged(t, got), want) {
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
		plain := testdumps.Rearranged(t, dump)
		for edit := range edits {
			want := copyOf(t, plain, n, edit)
			got, err := streamed(t, dump, n, edit)
			if err != nil {
				t.Errorf("%s, %s: %v", name, edit, err)
				continue
			}
			if !bytes.Equal(testdumps.Rearranged(t, got), want) {
				t.Errorf("%s, %s: not what -o gives", name, edit)
			}
			in, out := recordsOf(dump), recordsOf(got)
			if out[0].Off != 0 || out[len(out)-1].Off < in[len(in)-1].Off || len(out) > len(in)+40 {
				t.Errorf("%s, %s: %d records became %d, of another order", name, edit, len(in), len(out))
			}
		}
	}
}

// TestStreamFlatHeadLast: program headers come last, in parts.
func TestStreamFlatHeadLast(t *testing.T) {
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/deb-t1.flat-elf31"))
	n := testdumps.VMCSInfo
	for edit := range edits {
		dump := testdumps.Flat(headLast(t, plain, 50_000)...)
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
		if !bytes.Equal(testdumps.Rearranged(t, out.Bytes()), copyOf(t, plain, n, edit)) {
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
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-elf31"))
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	notes, size := c.NotesOff(), c.Notes().Size
	order := headLast(t, plain, flat.BodySize)
	change := func(off int64, b ...byte) []testdumps.Record {
		return append(headLast(t, plain, flat.BodySize), testdumps.At(off, b))
	}
	le := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	phdr := func(i int, at uintptr) int64 { return c.ProgOff(i) + int64(at) }
	kdump := recordsOf(testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	for _, tc := range []struct {
		name    string
		records []testdumps.Record
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
		{"a part of a descriptor comes again", append(append([]testdumps.Record{}, kdump...), testdumps.At(0x6000, []byte{1})), "page descriptor at offset 0x6000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := streamed(t, testdumps.Flat(tc.records...), testdumps.VMCSInfo, "inject")
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
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-elf31"))
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	kdump := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	unpacked := testdumps.Rearranged(t, kdump)
	k := testdumps.OpenKDump(t, unpacked)
	sub := bytes.Clone(unpacked[k.SubOff():][:k.ABI.SubSize])
	k.PutExtent(sub[k.ABI.Erase:], plan.Extent{Off: uint64(len(unpacked)), Size: 5})
	for _, tc := range []struct {
		name    string
		records []testdumps.Record
	}{
		{"a program header", append(headLast(t, plain, flat.BodySize), testdumps.At(c.ProgOff(3)+24, []byte{1, 2, 3}))},
		{"e_flags", append(headLast(t, plain, flat.BodySize), testdumps.At(int64(elfcore.Layout64.EFlags), []byte{elfcore.Incomplete}))},
		{"memory", append(headLast(t, plain, flat.BodySize), testdumps.At(0x1ff00, bytes.Repeat([]byte("x"), 3000)))},
		{"eraseinfo and the sub header", append(recordsOf(kdump), testdumps.At(int64(len(unpacked)), []byte("erase")), testdumps.At(k.SubOff(), sub))},
	} {
		dump := testdumps.Flat(tc.records...)
		got, err := streamed(t, dump, testdumps.VMCSInfo, "inject")
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if !bytes.Equal(testdumps.Rearranged(t, got), copyOf(t, testdumps.Rearranged(t, dump), testdumps.VMCSInfo, "inject")) {
			t.Errorf("%s: not what -o gives", tc.name)
		}
	}
}

// TestStreamFlatShuffled: however records are cut, and whatever they say twice,
// there is the right copy or an error, and the latter without an end marker.
func TestStreamFlatShuffled(t *testing.T) {
	seeds := uint64(50)
	if testing.Short() {
		seeds = 15
	}
	for _, name := range []string{"kernel-slack", "tight-small-loads", "sections-after", "elf32-msb", "overlap", "no-load"} {
		plain := testcores.Bytes(t, name)
		done, all := 0, 0
		for seed := range seeds {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var records []testdumps.Record
			for off := 0; off < len(plain); {
				n := min(1+rnd.IntN(1+rnd.IntN(9000)), len(plain)-off)
				records = append(records, testdumps.At(int64(off), plain[off:off+n]))
				off += n
			}
			for range rnd.IntN(10) { // the more, the more out of order
				i, j := rnd.IntN(len(records)), rnd.IntN(len(records))
				records[i], records[j] = records[j], records[i]
			}
			if seed%2 == 1 { // and what is wrong before it is right
				r := records[rnd.IntN(len(records))]
				i := rnd.IntN(3)
				records = append([]testdumps.Record{testdumps.At(r.Off, bytes.Repeat([]byte{0xa5}, len(r.Body)))}, records...)
				records[0], records[min(i, len(records)-1)] = records[min(i, len(records)-1)], records[0]
			}
			dump := testdumps.Flat(records...)
			for edit := range edits {
				all++
				got, err := streamed(t, dump, testdumps.VMCSInfo, edit)
				if err != nil {
					if complete(got) {
						t.Fatalf("%s, %d, %s: an error (%v), and an end marker", name, seed, edit, err)
					}
					continue
				}
				done++
				if !bytes.Equal(testdumps.Rearranged(t, got), copyOf(t, testdumps.Rearranged(t, dump), testdumps.VMCSInfo, edit)) {
					t.Fatalf("%s, %d, %s: not what -o gives", name, seed, edit)
				}
			}
		}
		if done < all*5/9 {
			t.Errorf("%s: %d of %d passed", name, done, all)
		}
	}
}
