package vmcore

import (
	"bytes"
	"io"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
)

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
	f.Add(flatOf(record{0, []byte("abc")}, record{1, []byte("xy")}, record{7, []byte("z")}))
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_RIP)=0706\n")}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		v, err := openFlat(bytes.NewReader(b), int64(len(b)), func(r io.ReaderAt, size int64) (Core, error) {
			if size > 1<<20 {
				return nil, errors.New("too large to look at all of it")
			}
			return (opener())(r, size)
		})
		if got := allocated() - before; got > 16<<20+64*uint64(len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", got, len(b))
		}
		if err != nil {
			if v != nil {
				t.Error("an error, and a dump")
			}
			return
		}
		if plain, whole := rearrange(b); whole && !bytes.Equal(plainOf(t, v), plain) {
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
		for _, pl := range []Placement{Slack, Evict} {
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
			after := &journal{base: bytes.NewReader(b), size: int64(len(b))}
			plain := &journal{base: c, size: c.PlainSize()}
			if err := errors.WithMessage(p.Run(t.Context(), after, func(int64) {}), "flattened"); err != nil {
				t.Fatal(err)
			}
			if err := direct.Run(t.Context(), plain, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			got := mustFlat(t, readAll(t, after.now()))
			if !bytes.Equal(plainOf(t, got), readAll(t, plain.now())) {
				t.Fatalf("%s: put together it is not what the direct change gives", pl)
			}
			if len(got.View.Shared) != shared {
				t.Fatalf("%s: more bytes are in two records than before", pl)
			}
		}
	})
}
