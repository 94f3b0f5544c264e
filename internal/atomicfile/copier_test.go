package atomicfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestWriteBehind: the disk is told to begin once per some MiB, however many
// runs of data the file consists of, and of all bytes but the last.
func TestWriteBehind(t *testing.T) {
	const page, runs = 64 << 10, 256
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	data := bytes.Repeat([]byte{1}, page)
	for i := range int64(runs) {
		if _, err := src.WriteAt(data, i*2*page); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.Truncate(runs * 2 * page); err != nil {
		t.Fatal(err)
	}
	if _, hole := NextData(src, 0, runs*2*page); hole != page {
		t.Skip("the file system keeps no holes of a page")
	}
	for _, durable := range []bool{true, false} {
		dst, err := os.Create(filepath.Join(dir, "dst"))
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		if err := dst.Truncate(runs * 2 * page); err != nil {
			t.Fatal(err)
		}
		calls, told := 0, int64(0)
		c := Copier{Ctx: t.Context(), Dst: dst, Src: src, Durable: durable, Progress: func(int64) {}, noClone: true,
			hint: func(off, n int64) {
				if off < told || off > told+page {
					t.Errorf("told of %#x after %#x", off, told)
				}
				calls, told = calls+1, off+n
			}}
		if err := c.CopyRange(0, 0, runs*2*page); err != nil {
			t.Fatal(err)
		}
		if want := int64(runs * page / writeBehind); durable != (calls > 0) || int64(calls) > want {
			t.Errorf("durable %v: %d calls, want %d", durable, calls, want)
		}
	}
}
