package vmcore

import (
	"bytes"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/testdumps"
)

var _ Core = kdumpCore{}

// TestSameMemory compares the memory of a kdump-compressed dump with that of an
// ELF dump of the same crash: every page that both hold must be equal.
func TestSameMemory(t *testing.T) {
	for _, name := range testdumps.KDumpFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kernel, _, _ := strings.Cut(name, ".")
			im := testcores.Image(t, kernel+".elf31")
			e, err := elfcore.Open(im, im.Size())
			if err != nil {
				t.Fatal(err)
			}
			c := testdumps.OpenKDump(t, testdumps.KDumpFile(t, name))
			pages, both := 0, 0
			for r := range c.Ranges() {
				a, b := make([]byte, r.Size), make([]byte, 4096)
				if n, err := c.ReadPhys(a, r.Addr); err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
				for off := uint64(0); off < r.Size; off += 4096 {
					pages++
					if _, err := e.ReadPhys(b, r.Addr+off); err != nil {
						continue
					}
					both++
					if !bytes.Equal(a[off:off+4096], b) {
						t.Fatalf("page %#x differs", r.Addr+off)
					}
				}
			}
			all := 0
			for r := range e.Ranges() {
				all += int(r.Size / 4096)
			}
			if both < 1000 || both < all*9/10 {
				t.Errorf("%d pages, of which the ELF dump holds %d and %d more", pages, both, all-both)
			}
			if f := VerifyDeep(t.Context(), kdumpCore{c}); len(f) > 0 {
				t.Errorf("verify finds %v", f)
			}
			if !bytes.Equal(testdumps.NotesText(t, c.Notes()), testdumps.NotesText(t, e.Notes())) {
				t.Error("the notes differ")
			}
		})
	}
}
