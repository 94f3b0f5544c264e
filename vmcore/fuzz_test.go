package vmcore

import (
	"bytes"
	"io"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/testdumps"
)

// FuzzStream adds a note to whatever comes: an error before anything is known
// is one before anything is written.
func FuzzStream(f *testing.F) {
	testdumps.ELFSeeds(f)
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_RIP)=0706\n")}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := elfcore.Open(bytes.NewReader(b), int64(len(b))); err != nil || len(c.Progs) > 100 {
			return
		}
		var out bytes.Buffer
		_, err := Stream(t.Context(), &out, bytes.NewReader(b), func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(n), nil })
		if err != nil && !errors.Is(err, ErrTruncated) && out.Len() > 0 && err != io.ErrShortWrite {
			t.Errorf("stream: %v, but %d bytes written", err, out.Len())
		}
	})
}

// FuzzFlat: whatever the bytes, no panic, and no memory for what a record
// claims; what opens reads as makedumpfile -R puts it together, and takes a
// note in place as the plain form does.
func FuzzFlat(f *testing.F) {
	for _, name := range []string{"kernel-slack", "tight-small-loads", "elf32-msb", "truncated-memory"} {
		plain := testcores.Bytes(f, name)
		for _, flatten := range flatCuts {
			f.Add(flatten(plain))
		}
	}
	f.Add(testdumps.Flat(testdumps.At(0, []byte("abc")), testdumps.At(1, []byte("xy")), testdumps.At(7, []byte("z"))))
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_RIP)=0706\n")}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := testdumps.Allocated()
		v, err := openFlat(bytes.NewReader(b), int64(len(b)), func(r io.ReaderAt, size int64) (Core, error) {
			if size > 1<<20 {
				return nil, errors.New("too large to look at all of it")
			}
			return (opener())(r, size)
		})
		if got := testdumps.Allocated() - before; got > 16<<20+64*uint64(len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", got, len(b))
		}
		if err != nil {
			if v != nil {
				t.Error("an error, and a dump")
			}
			return
		}
		if plain, whole := testdumps.Rearrange(b); whole && !bytes.Equal(plainOf(t, v), plain) {
			t.Fatal("it does not read as makedumpfile -R puts it together")
		}
		c, err := openFlat(bytes.NewReader(b), int64(len(b)), Open)
		if err != nil {
			return
		}
		c.Verify()
		core, ok := c.Core.(elfCore)
		if !ok || len(core.Progs) > 100 {
			return
		}
		for _, pl := range []Placement{Slack, Split, Evict} {
			sp := c.Notes().Insert(n)
			p, err := c.PlanInPlace(pl, sp)
			if err != nil {
				continue
			}
			direct, err := core.PlanInPlace(pl, sp)
			if err != nil {
				t.Fatal(err)
			}
			shared := len(c.View.Shared)
			after := &faults.Journal{Base: bytes.NewReader(b), Size: int64(len(b))}
			plain := &faults.Journal{Base: c, Size: c.PlainSize()}
			if err := errors.WithMessage(p.Run(t.Context(), after, func(int64) {}), "flattened"); err != nil {
				t.Fatal(err)
			}
			if err := direct.Run(t.Context(), plain, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			got := mustFlat(t, readAll(t, after.Now()))
			if !bytes.Equal(plainOf(t, got), readAll(t, plain.Now())) {
				t.Fatalf("%s: put together it is not what the direct change gives", pl)
			}
			if len(got.View.Shared) != shared {
				t.Fatalf("%s: more bytes are in two records than before", pl)
			}
		}
	})
}

func FuzzOpenMemory(f *testing.F) {
	f.Add(testdumps.LiME(testdumps.Range{Addr: 0x1000, Bytes: testdumps.Memory(0x1000, 1)}))
	var t testing.T
	f.Add(testdumps.AVML(&t, testdumps.Range{Addr: 0x1000, Bytes: testdumps.Memory(0x2000, 1)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := OpenMemory(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for r := range c.Ranges() {
			c.ReadPhys(make([]byte, 64), r.Addr)
			c.ReadPhys(make([]byte, 64), r.Addr+r.Size-1)
		}
	})
}

// FuzzStreamFlat: whatever the bytes, no panic, and no memory for what a record
// claims; what passes is what -o gives for the plain form, and what does not
// has no end marker.
func FuzzStreamFlat(f *testing.F) {
	for _, name := range []string{"kernel-slack", "tight-small-loads", "elf32-msb", "sections-after"} {
		plain := testcores.Bytes(f, name)
		f.Add(testdumps.Flat(testdumps.InRecords(plain, 700)...), true)
		f.Add(testdumps.Flat(headLast(f, plain, 700)...), false)
	}
	f.Add(testdumps.Flat(testdumps.InRecords(testdumps.KDump{MaxMapnr: 100, Pages: []uint64{1, 2, 50}}.Build(), 5000)...), true)
	f.Fuzz(func(t *testing.T, flat []byte, inject bool) {
		edit := "remove"
		if inject {
			edit = "inject"
		}
		v, bad := openFlat(bytes.NewReader(flat), int64(len(flat)), Open)
		if bad == nil && v.PlainSize() > 1<<24 {
			return // too large to look at all of it
		}
		before := testdumps.Allocated()
		got, err := streamed(t, flat, testdumps.VMCSInfo, edit)
		if n := testdumps.Allocated() - before; n > 64<<20+64*uint64(len(flat)) {
			t.Fatalf("%d bytes allocated for a stream of %d", n, len(flat))
		}
		if err != nil {
			if complete(got) {
				t.Fatalf("an error (%v), and an end marker", err)
			}
			return
		}
		if bad != nil {
			t.Fatalf("it passes, though %v", bad)
		}
		if !bytes.Equal(testdumps.Rearranged(t, got), copyOf(t, plainOf(t, v), testdumps.VMCSInfo, edit)) {
			t.Fatal("not what -o gives")
		}
	})
}
