package vmcore

import (
	"bytes"
	"testing"

	"vmcsnote/internal/testcores"
)

// FuzzStreamFlat: whatever the bytes, no panic, and no memory for what a record
// claims; what passes is what -o gives for the plain form, and what does not has
// no end marker.
func FuzzStreamFlat(f *testing.F) {
	for _, name := range []string{"kernel-slack", "tight-small-loads", "elf32-msb", "sections-after"} {
		plain := testcores.Bytes(f, name)
		f.Add(flatOf(inRecords(plain, 700)...), true)
		f.Add(flatOf(headLast(f, plain, 700)...), false)
	}
	f.Add(flatOf(inRecords(kdumpSpec{maxMapnr: 100, pages: []uint64{1, 2, 50}}.build(), 5000)...), true)
	f.Fuzz(func(t *testing.T, flat []byte, inject bool) {
		edit := "remove"
		if inject {
			edit = "inject"
		}
		v, bad := openFlat(bytes.NewReader(flat), int64(len(flat)), Open)
		if bad == nil && v.PlainSize() > 1<<24 {
			return // too large to look at all of it
		}
		before := allocated()
		got, err := streamed(t, flat, testVMCSInfo, edit)
		if n := allocated() - before; n > 64<<20+64*uint64(len(flat)) {
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
		if !bytes.Equal(rearranged(t, got), copyOf(t, plainOf(t, v), testVMCSInfo, edit)) {
			t.Fatal("not what -o gives")
		}
	})
}
