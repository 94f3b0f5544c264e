package vmcore

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestFlatCopySame: a copy is what a stream of the dump becomes, and of a dump
// that no stream can be changed of, right all the same, in a file and in a pipe.
func TestFlatCopySame(t *testing.T) {
	plain := rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	c := openKDump(t, plain)
	bitmap, descs := c.BitmapOff(), c.DescOff()
	data := int64(c.Index().Data)
	piece := func(from, end int64) record { return record{from, plain[from:end]} }
	late := []record{piece(0, bitmap), piece(bitmap, descs-1000), piece(descs-500, descs), piece(descs-1000, descs-500)}
	late = append(late, piece(descs, data))
	for _, r := range inRecords(plain[data:], 10_000) {
		late = append(late, record{data + r.off, r.body})
	}
	for name, tt := range map[string]struct {
		flat   []byte
		stream bool
	}{
		"by makedumpfile":       {testcores.Bytes(t, "flat/cloud-c1.flat-zlib"), true},
		"in cycles":             {flatOf(inCycles(t, plain, true)...), true},
		"a bitmap out of order": {flatOf(late...), false},
	} {
		t.Run(name, func(t *testing.T) {
			streamed, err := streamed(t, tt.flat, testVMCSInfo, "inject")
			if (err == nil) != tt.stream {
				t.Fatalf("as a stream: %v", err)
			}
			path := filepath.Join(t.TempDir(), "flat")
			if err := os.WriteFile(path, tt.flat, 0o600); err != nil {
				t.Fatal(err)
			}
			f := mustOpen(t, path, OpenFile)
			sp := f.Notes().Insert(testVMCSInfo)
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
			if !bytes.Equal(rearranged(t, copied), copyOf(t, plain, testVMCSInfo, "inject")) {
				t.Error("put together it is not the copy of the plain form")
			}
		})
	}
}
