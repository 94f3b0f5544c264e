package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/testdumps"
)

// sparseNote is what the sparse dumps hold, besides zeros.
var sparseNote = elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=12\nFIELD(GUEST_RIP)=08\n")}

// holeFile makes a file of a size that is a hole but for what is at the
// offsets.
func holeFile(t *testing.T, size int64, at map[int64][]byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Skip("no sparse files here: ", err)
	}
	if _, err := f.Seek(0, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
		t.Skip("the file system does not tell of holes: ", err)
	}
	for off, b := range at {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// sparseForms are dumps with size bytes of memory, all of it a hole but for a
// note at half of it.
var sparseForms = []struct {
	name string
	make func(t *testing.T, size int64, note []byte) *os.File
	open func(io.ReaderAt, int64) (Core, error)
}{
	{"raw", func(t *testing.T, size int64, note []byte) *os.File {
		return holeFile(t, size, map[int64][]byte{size / 2: note})
	}, OpenRaw},
	{"LiME", func(t *testing.T, size int64, note []byte) *os.File {
		head := make([]byte, 32)
		copy(head, "EMiL")
		binary.LittleEndian.PutUint32(head[4:], 1)
		binary.LittleEndian.PutUint64(head[16:], uint64(size-1))
		return holeFile(t, 32+size, map[int64][]byte{0: head, 32 + size/2: note})
	}, OpenMemory},
	{"ELF", func(t *testing.T, size int64, note []byte) *os.File {
		return holeFile(t, sparseELFData+size, map[int64][]byte{0: sparseELF(size), sparseELFData + size/2: note})
	}, Open},
	{"flattened", func(t *testing.T, size int64, note []byte) *os.File {
		// A record each for the headers, and for the hole around the note.
		head := sparseELF(size)
		hole := size / 2
		start := append(flat.Header(), append(testdumps.RecordHeader(0, int64(len(head))), head...)...)
		start = append(start, testdumps.RecordHeader(sparseELFData+size/2, int64(len(note)))...)
		start = append(start, note...)
		start = append(start, testdumps.RecordHeader(sparseELFData+size/2+4096, hole-4096)...)
		end := int64(len(start)) + hole - 4096
		return holeFile(t, end+int64(len(flat.EndMarker)), map[int64][]byte{0: start, end: flat.EndMarker})
	}, Open},
}

const sparseELFData = 0x1000

// sparseELF returns the headers of a core with one PT_LOAD.
func sparseELF(size int64) []byte {
	eh := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(eh.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, eh)
	binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 0x200})
	binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: sparseELFData, Filesz: uint64(size), Memsz: uint64(size)})
	return b.Bytes()
}

// scanned is what a scan of a core shows, the pages of zeros left out.
type scanned struct {
	pages map[uint64]string
	shown uint64 // bytes
	done  uint64
	hits  []Hit
}

func scanAll(t *testing.T, c Core) scanned {
	t.Helper()
	s := scanned{pages: make(map[uint64]string)}
	notes := NewNoteFinder(c, vmcsInfo(func(elfnote.Note) bool { return true }))
	var mu sync.Mutex
	opt := physmem.ScanOptions{Progress: func(done uint64) { s.done = done }, Lost: func(addr uint64, err error) { t.Errorf("%#x: %v", addr, err) }}
	err := physmem.Scan(context.Background(), c, opt, func(addr uint64, b []byte) error {
		notes.Look(addr, b)
		mu.Lock()
		defer mu.Unlock()
		s.shown += uint64(len(b))
		for page := range slices.Chunk(b, 4096) {
			if !physmem.AllZero(page) {
				s.pages[addr] = string(page)
			}
			addr += 4096
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.hits, _ = notes.Hits()
	return s
}

// TestSparse: holes of a file are not read, and what is found is what is found
// without knowing of them.
func TestSparse(t *testing.T) {
	note := sparseNote.Encode(binary.LittleEndian)
	for _, form := range sparseForms {
		for _, size := range []int64{16 << 20, 1 << 40} {
			t.Run(fmt.Sprintf("%s, %d MiB", form.name, size>>20), func(t *testing.T) {
				f := form.make(t, size, note)
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				c, err := form.open(f, info.Size())
				if err != nil {
					t.Fatal(err)
				}
				got := scanAll(t, c)
				if len(got.hits) != 1 || got.hits[0].Addr != uint64(size/2) || !got.hits[0].Note.Equal(sparseNote) {
					t.Errorf("found %v", got.hits)
				}
				if got.shown > 1<<20 || got.done != uint64(size) || physmem.Size(c) != uint64(size) {
					t.Errorf("%#x bytes were read, %#x done of %#x", got.shown, got.done, physmem.Size(c))
				}
				if size > 1<<30 {
					return // it would take too long to read
				}
				// Of this reader nothing tells of holes.
				c, err = form.open(struct{ io.ReaderAt }{f}, info.Size())
				if err != nil {
					t.Fatal(err)
				}
				all := scanAll(t, c)
				if len(all.pages) != len(got.pages) || all.done != got.done || len(all.hits) != 1 || all.hits[0].Addr != got.hits[0].Addr {
					t.Errorf("%d pages, %v, and with the holes read %d pages, %v", len(got.pages), got.hits, len(all.pages), all.hits)
				}
				for addr, page := range all.pages {
					if got.pages[addr] != page {
						t.Errorf("page at %#x differs", addr)
					}
				}
				if form.name != "flattened" && all.shown != uint64(size) {
					t.Errorf("without holes %#x bytes of %#x were read", all.shown, size)
				}
			})
		}
	}
}

// TestFlattenedMemory: a dump and its flattened form have the same memory, and
// the same is found in it.
func TestFlattenedMemory(t *testing.T) {
	for name, b := range testdumps.AllKDumps(t) {
		if strings.HasPrefix(name, "sparse-no-page") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var records []testdumps.Record
			for off := 0; off < len(b); off += 60_000 {
				records = append(records, testdumps.At(int64(off), b[off:min(off+60_000, len(b))]))
			}
			slices.Reverse(records) // as the writers may
			plain, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			flattened := mustFlat(t, testdumps.Flat(records...))
			if got, want := slices.Collect(flattened.Ranges()), slices.Collect(plain.Ranges()); !slices.Equal(got, want) || len(want) == 0 {
				t.Fatalf("%d ranges %#x, want %d %#x", len(got), got, len(want), want)
			}
			got, want := scanAll(t, flattened), scanAll(t, plain)
			if len(got.pages) != len(want.pages) || len(got.hits) != len(want.hits) || got.shown != want.shown {
				t.Errorf("%d pages, %d notes, %#x bytes; want %d, %d, %#x", len(got.pages), len(got.hits), got.shown, len(want.pages), len(want.hits), want.shown)
			}
			for addr, page := range want.pages {
				if got.pages[addr] != page {
					t.Fatalf("page at %#x differs", addr)
				}
			}
		})
	}
}
