package vmcore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestFlatCopySame: a copy is what a stream of the dump becomes, and of a dump
// that no stream can be changed of, right all the same, in a file and in a
// pipe.
func TestFlatCopySame(t *testing.T) {
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	c := testdumps.OpenKDump(t, plain)
	bitmap, descs := c.BitmapOff(), c.DescOff()
	data := int64(c.Index().Data)
	piece := func(from, end int64) testdumps.Record { return testdumps.At(from, plain[from:end]) }
	late := []testdumps.Record{piece(0, bitmap), piece(bitmap, descs-1000), piece(descs-500, descs), piece(descs-1000, descs-500)}
	late = append(late, piece(descs, data))
	for _, r := range testdumps.InRecords(plain[data:], 10_000) {
		late = append(late, testdumps.At(data+r.Off, r.Body))
	}
	for name, tt := range map[string]struct {
		flat   []byte
		stream bool
	}{
		"by makedumpfile":       {testcores.Bytes(t, "flat/cloud-c1.flat-zlib"), true},
		"in cycles":             {testdumps.Flat(inCycles(t, plain, true)...), true},
		"a bitmap out of order": {testdumps.Flat(late...), false},
	} {
		t.Run(name, func(t *testing.T) {
			streamed, err := streamed(t, tt.flat, testdumps.VMCSInfo, "inject")
			if (err == nil) != tt.stream {
				t.Fatalf("as a stream: %v", err)
			}
			path := filepath.Join(t.TempDir(), "flat")
			if err := os.WriteFile(path, tt.flat, 0o600); err != nil {
				t.Fatal(err)
			}
			f := mustOpen(t, path, OpenFile)
			sp := f.Notes().Insert(testdumps.VMCSInfo)
			l, err := f.CopyTo(t.Context(), path+".copy", sp, CopyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			copied, err := os.ReadFile(path + ".copy")
			if err != nil {
				t.Fatal(err)
			}
			var piped bytes.Buffer
			if err := f.WriteLayout(t.Context(), &piped, l, CopyOptions{}); err != nil || !bytes.Equal(piped.Bytes(), copied) {
				t.Errorf("%d bytes through a pipe, %d in the copy, or others (%v)", piped.Len(), len(copied), err)
			}
			if tt.stream && !bytes.Equal(copied, streamed) {
				t.Error("the copy is not what the stream becomes")
			}
			if !bytes.Equal(testdumps.Rearranged(t, copied), copyOf(t, plain, testdumps.VMCSInfo, "inject")) {
				t.Error("put together it is not the copy of the plain form")
			}
		})
	}
}

// holedReader cannot read what lies at an offset.
type holedReader struct {
	io.ReaderAt
	at  int64
	err error // io.EOF: the file looks as if it ended there
}

func (r holedReader) ReadAt(p []byte, off int64) (int, error) {
	if off <= r.at && r.at < off+int64(len(p)) {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestCopyBadDisk: if the bitmap cannot be read, nothing says how many page
// descriptors there are, whose offsets must change: there is no copy.
func TestCopyBadDisk(t *testing.T) {
	b := testdumps.KDump{}.Build()
	whole := testdumps.OpenKDump(t, b)
	dumped, _ := whole.Bitmaps()
	for _, tt := range []struct {
		name string
		at   int64
		err  error
	}{
		{"bitmap", dumped, unix.EIO},
		{"later in the bitmap", dumped + testdumps.MaxPFN/8, unix.EIO},
		{"bitmap, as if the file ended there", dumped, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "core")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := kdump.Open(holedReader{bytes.NewReader(b), tt.at, tt.err}, int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			sp := c.Notes().Insert(elfnote.Note{Name: "X", Desc: make([]byte, 8192)})
			l, err := c.PlanCopy(sp)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			s := &plan.Streamer{Ctx: t.Context(), W: &out, R: bytes.NewReader(b), Buf: make([]byte, 4096)}
			if err := s.Run(l); !errors.Is(err, unix.EIO) && !errors.Is(err, plan.ErrTruncated) {
				t.Errorf("streamed: %v", err)
			}
			src, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			dst, err := os.Create(path + ".new")
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			if err := copyLayout(&atomicfile.Copier{Ctx: t.Context(), Src: src, Dst: dst, Progress: func(int64) {}}, l); !errors.Is(err, unix.EIO) && !errors.Is(err, plan.ErrTruncated) {
				t.Errorf("copied: %v", err)
			}
		})
	}
}
