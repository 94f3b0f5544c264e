package linux_test

import (
	"debug/elf"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"vmcsnote/internal/sparse"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// writeThin makes a file that has nothing of a dump but its headers, its notes
// and the pages, with the patches.
func writeThin(t *testing.T, src io.ReaderAt, size int64, pages map[uint64]bool, patched []patch) *os.File {
	out, err := os.Create(filepath.Join(t.TempDir(), "thin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	out.Truncate(size)
	copyAt := func(off int64, n int64) {
		if _, err := io.Copy(io.NewOffsetWriter(out, off), io.NewSectionReader(src, off, n)); err != nil {
			t.Fatal(err)
		}
	}
	place := places(t, src, size, pages)
	copyAt(0, place.data)
	for _, off := range place.pages {
		copyAt(off, 4096)
	}
	for _, p := range patched {
		if _, err := out.WriteAt(p.data, place.pages[p.phys&^4095]+int64(p.phys%4096)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Sync(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pages", len(pages))
	return out
}

// packThin makes a golden core of a thinned dump.
func packThin(t *testing.T, out *os.File, to string) {
	packed, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Pack(packed, out); err != nil {
		t.Fatal(err)
	}
	st, err := packed.Stat()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", st.Size())
}

// A layout is where a dump's file has pages, and where the first page is:
// everything before is no memory.
type layout struct {
	pages map[uint64]int64
	data  int64
}

// places finds pages in a dump, whatever its form, if it is not compressed: a
// page's place is what the dump's reader reads last. From the last page to the
// first, for the reader reads ahead in the other direction.
func places(t *testing.T, src io.ReaderAt, size int64, pages map[uint64]bool) layout {
	rec := &fileRecorder{r: src}
	core, err := vmcore.Open(rec, size)
	if err != nil {
		t.Fatal(err)
	}
	l := layout{pages: map[uint64]int64{}}
	page := make([]byte, 4096)
	sorted := slices.Sorted(maps.Keys(pages))
	for _, phys := range slices.Backward(sorted) {
		if _, err := core.ReadPhys(page, phys); err != nil || rec.n != 4096 {
			t.Fatalf("page at %#x: the file is read at %#x for %#x bytes (%v)", phys, rec.off, rec.n, err)
		}
		l.pages[phys] = rec.off
	}
	// /proc/vmcore has the kernel's image twice: not all segments are read.
	if f, err := elf.NewFile(src); err == nil {
		l.data = size
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD {
				l.data = min(l.data, int64(p.Off))
			}
		}
		return l
	}
	for phys := uint64(0); ; phys += 4096 {
		if _, err := core.ReadPhys(page, phys); err == nil {
			l.data = rec.off
			return l
		} else if phys > sorted[0] {
			t.Fatal(err)
		}
	}
}

// A fileRecorder remembers the last read.
type fileRecorder struct {
	r   io.ReaderAt
	off int64
	n   int
}

func (r *fileRecorder) ReadAt(p []byte, off int64) (int, error) {
	r.off, r.n = off, len(p)
	return r.r.ReadAt(p, off)
}

// A recorder remembers the pages that were read.
type recorder struct {
	mem   physmem.Reader
	mutex sync.Mutex
	pages map[uint64]bool
}

func (r *recorder) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := r.mem.ReadPhys(p, addr)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for at := addr &^ 4095; r.pages != nil && n > 0 && at < addr+uint64(n); at += 4096 {
		r.pages[at] = true
	}
	return n, err
}
