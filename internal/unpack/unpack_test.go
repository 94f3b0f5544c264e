package unpack

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"
)

var text = []byte(strings.Repeat("a dump, and more of it; ", 10_000))

// packed is text, compressed by a program, or the test is skipped.
func packed(t *testing.T, command ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		if os.Getenv("VMCSNOTE_CLIENTS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = bytes.NewReader(text)
	b, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gzipped(t *testing.T) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t *testing.T) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(text, nil)
}

func TestNewReader(t *testing.T) {
	for _, tt := range []struct {
		name, compression string
		pack              func(t *testing.T) []byte
	}{
		{"gzip", "gzip", gzipped},
		{"zstd", "zstd", zstded},
		{"bzip2", "bzip2", func(t *testing.T) []byte { return packed(t, "bzip2", "-c") }},
		{"xz", "xz", func(t *testing.T) []byte { return packed(t, "xz", "-c") }},
		{"lzma", "lzma", func(t *testing.T) []byte { return packed(t, "xz", "-c", "--format=lzma") }},
		{"lz4", "lz4", func(t *testing.T) []byte { return packed(t, "lz4", "-c") }},
		{"lz4 as the kernel's build makes it", "lz4", func(t *testing.T) []byte { return packed(t, "lz4", "-lc") }},
		{"lzop", "lzo", func(t *testing.T) []byte { return packed(t, "lzop", "-c") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.pack(t)
			if got := read(t, tt.compression, b); !bytes.Equal(got, text) {
				t.Error("something else came out")
			}
			if tt.compression == "lzma" || tt.name != tt.compression {
				return // no second part
			}
			if got := read(t, tt.compression, append(b[:len(b):len(b)], b...)); len(got) != 2*len(text) {
				t.Errorf("two parts, one after another: %d bytes, want %d", len(got), 2*len(text))
			}
			r, err := NewReader(tt.compression, bytes.NewReader(b[:len(b)/2]))
			if err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
			if err == nil {
				t.Error("cut off: no error")
			}
		})
	}
}

func read(t *testing.T, compression string, b []byte) []byte {
	t.Helper()
	r, err := NewReader(compression, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return got
}

// TestGzipZeros: zeros after the end, as an initramfs has them, are ignored.
func TestGzipZeros(t *testing.T) {
	b := append(gzipped(t), make([]byte, 3000)...)
	if got := read(t, "gzip", b); !bytes.Equal(got, text) {
		t.Error("something else came out")
	}
	r, err := NewReader("gzip", bytes.NewReader(append(gzipped(t), "rest"...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("no error for other bytes after the end")
	}
}

// TestNoProgram: a program that is missing is named.
func TestNoProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for compression, program := range map[string]string{"xz": "xz", "lz4": "lz4", "lzo": "lzop"} {
		r, err := NewReader(compression, bytes.NewReader([]byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		var no NoProgram
		if !errors.As(err, &no) || no.Program != program || no.Package() == "" {
			t.Errorf("%s: got %v, want that %s is missing", compression, err, program)
		}
	}
	for _, compression := range []string{"gzip", "zstd"} {
		if got := read(t, compression, map[string][]byte{"gzip": gzipped(t), "zstd": zstded(t)}[compression]); !bytes.Equal(got, text) {
			t.Errorf("%s needs a program", compression)
		}
	}
}
