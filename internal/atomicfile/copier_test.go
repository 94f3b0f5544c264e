package atomicfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
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

// TestCopyRange: the bytes are the same, and holes stay holes, in whatever way
// they are copied and however far they move.
func TestCopyRange(t *testing.T) {
	const size = 1 << 20
	data := make([]byte, size)
	for _, at := range [][2]int{{0, 100_000}, {500_000, 700_003}} {
		for i := at[0]; i < at[1]; i++ {
			data[i] = byte(i*7 + i>>8)
		}
	}
	src := tempFile(t)
	for _, at := range [][2]int{{0, 100_000}, {500_000, 700_003}} {
		if _, err := src.WriteAt(data[at[0]:at[1]], int64(at[0])); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, shift := range []int64{0, 1, pageSize, folioSize, folioSize + pageSize} {
		for _, way := range []struct {
			name string
			c    Copier
		}{
			{"in the kernel", Copier{noClone: true, byPage: false, buf: make([]byte, bufSize)}},
			{"by page", Copier{noClone: true, byPage: true, buf: make([]byte, bufSize)}},
			{"read and written", Copier{noClone: true, noKernel: true, buf: make([]byte, bufSize)}},
			{"as the file system is", Copier{}},
			{"with zeros for holes", Copier{NoHoles: true}},
		} {
			t.Run(fmt.Sprintf("%s, %d further on", way.name, shift), func(t *testing.T) {
				dst, c, done := tempFile(t), way.c, int64(0)
				c.Ctx, c.Src, c.Dst, c.Progress = t.Context(), src, dst, func(n int64) { done += n }
				if err := dst.Truncate(size + shift); err != nil {
					t.Fatal(err)
				}
				if err := c.CopyRange(shift, 0, size); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size+shift+1)
				n, _ := dst.ReadAt(got, 0)
				if int64(n) != size+shift || !bytes.Equal(got[shift:n], data) || done != size {
					t.Errorf("%d bytes, %d done; the same: %v", n, done, bytes.Equal(got[shift:n], data))
				}
				data, _ := NextData(dst, 200_000+shift, size)
				whole, _ := NextData(src, 200_000, size)
				if sparse := whole > 400_000; sparse && !c.NoHoles && data < 400_000 {
					t.Errorf("data at %d, where the source has a hole", data)
				}
			})
		}
	}
	short := Copier{Ctx: t.Context(), Src: src, Dst: tempFile(t), Progress: func(int64) {}}
	if err := short.CopyRange(pageSize, size/2, size); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, expected that the source ends too early", err)
	}
}

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
