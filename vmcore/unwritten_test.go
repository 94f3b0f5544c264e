package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestPassOn: whatever a stream cannot be changed for, all of it can be passed
// on.
func TestPassOn(t *testing.T) {
	boom := errors.New("boom")
	refuse := func(Core) (elfnote.Splice, error) { return elfnote.Splice{}, boom }
	add := func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testdumps.VMCSInfo), nil }
	core := testcores.Bytes(t, "kernel-full")
	flat := testcores.Bytes(t, "flat/cloud-c1.flat-zlib")
	for _, tt := range []struct {
		name string
		dump []byte
		edit Edit
	}{
		{"the edit is refused", core, refuse},
		{"the edit is refused, flattened", flat, refuse},
		{"nothing", nil, add},
		{"no dump", bytes.Repeat([]byte("no dump "), 1<<16), add},
		{"a header and no more", core[:64], add},
		{"a dump that ends in its notes", testcores.Bytes(t, "bad-truncated-notes"), add},
		{"a flattened dump that ends in its headers", flat[:5000], add},
		{"a flattened dump of no dump", testdumps.Flat(testdumps.InRecords(bytes.Repeat([]byte{1}, 1<<20), 1000)...), add},
		{"two PT_NOTEs", testcores.Bytes(t, "bad-two-notes"), add},
	} {
		for _, r := range []io.Reader{bytes.NewReader(tt.dump), iotest.HalfReader(bytes.NewReader(tt.dump))} {
			var out bytes.Buffer
			_, err := Stream(t.Context(), &out, r, tt.edit)
			var whole *Unwritten
			if !errors.As(err, &whole) || out.Len() > 0 {
				t.Errorf("%s: error %v, %d bytes written, want an Unwritten and none", tt.name, err, out.Len())
			} else if err := whole.PassOn(t.Context(), &out); err != nil || !bytes.Equal(out.Bytes(), tt.dump) {
				t.Errorf("%s: %v, or not what came", tt.name, err)
			}
		}
	}
}

// TestPassOnErrors: the error tells what keeps the dump from being passed on.
func TestPassOnErrors(t *testing.T) {
	boom := errors.New("boom")
	refused := func(r io.Reader) *Unwritten {
		t.Helper()
		_, err := Stream(t.Context(), io.Discard, r, func(Core) (elfnote.Splice, error) { return elfnote.Splice{}, boom })
		var whole *Unwritten
		if !errors.As(err, &whole) || !errors.Is(err, boom) {
			t.Fatalf("got %v", err)
		}
		return whole
	}
	core := testcores.Bytes(t, "deb-t1.elf31")
	bad := errors.New("bad disk")
	if err := refused(io.MultiReader(bytes.NewReader(core[:1<<20]), iotest.ErrReader(bad))).PassOn(t.Context(), io.Discard); !errors.Is(err, bad) {
		t.Errorf("a reader that fails: %v", err)
	}
	if err := refused(bytes.NewReader(core)).PassOn(t.Context(), &testdumps.FailingWriter{N: 1 << 20}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(bad)
	if err := refused(bytes.NewReader(core)).PassOn(ctx, io.Discard); !errors.Is(err, bad) {
		t.Errorf("a signal: %v", err)
	}
}

// TestStreamToKeeps: a stream refused is in the file as it came.
func TestStreamToKeeps(t *testing.T) {
	boom := errors.New("boom")
	refuse := func(Core) (elfnote.Splice, error) { return elfnote.Splice{}, boom }
	core := testcores.Bytes(t, "kernel-full")
	large := append(bytes.Clone(core), make([]byte, plan.MaxHead)...)
	binary.LittleEndian.PutUint64(large[32:], plan.MaxHead+4096) // e_phoff
	for _, tt := range []struct {
		name string
		in   io.Reader
		want []byte // nil: no file
	}{
		{"the edit is refused", pipeOf(core), core},
		{"the edit is refused, flattened", pipeOf(testcores.Bytes(t, "flat/cloud-c1.flat-zlib")), testcores.Bytes(t, "flat/cloud-c1.flat-zlib")},
		{"headers too large to keep", pipeOf(large), large},
		{"no dump", pipeOf([]byte("no dump")), nil},
		{"nothing", pipeOf(nil), nil},
	} {
		out := filepath.Join(t.TempDir(), "out")
		l, err := StreamTo(t.Context(), out, tt.in, refuse, CopyOptions{})
		got, rerr := os.ReadFile(out)
		if l != nil || err == nil || (rerr == nil) != (tt.want != nil) || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: error %v; the file: %v, or not what came", tt.name, err, rerr)
		}
		if kept := strings.HasSuffix(err.Error(), "; "+out+" holds the input, unchanged"); kept != (tt.want != nil) {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
}

// TestStreamToLoses: if the bytes of a refused stream cannot be kept, the error
// has both reasons.
func TestStreamToLoses(t *testing.T) {
	refused, failed := errors.New("refused"), errors.New("the disk failed")
	in := io.MultiReader(bytes.NewReader(append(testcores.Bytes(t, "kernel-full"), make([]byte, 1<<20)...)), iotest.ErrReader(failed))
	out := filepath.Join(t.TempDir(), "out")
	_, err := StreamTo(t.Context(), out, in, func(Core) (elfnote.Splice, error) { return elfnote.Splice{}, refused }, CopyOptions{})
	if !errors.Is(err, failed) || errors.Is(err, refused) || !strings.HasPrefix(err.Error(), "refused; ") {
		t.Errorf("error %v, expected one that wraps %v and tells %v", err, failed, refused)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("part of the stream was left: %v", err)
	}
}

// pipeOf returns a reader of b that cannot be read like a file.
func pipeOf(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }
