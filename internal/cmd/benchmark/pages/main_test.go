package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

func TestDump(t *testing.T) {
	head := testcores.Open(t, "kdump/deb-t1.kdump-zstd")
	blob := testcores.Open(t, "deb-t1.blob")
	note, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"raw", "zlib", "zstd"} {
		t.Run(method, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dump")
			if err := run([]string{"make", method, "512", "64", head, blob, path}); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := vmcore.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			var end []byte
			for r := range c.Ranges() {
				if r.Size != runPages*blockSize || r.Addr%((runPages+64)*blockSize) != 0 {
					t.Errorf("%#x bytes at %#x", r.Size, r.Addr)
				}
				end = make([]byte, r.Size)
				if _, err := c.ReadPhys(end, r.Addr); err != nil {
					t.Fatal(err)
				}
			}
			if method != "raw" && !bytes.HasSuffix(end, note) {
				t.Error("the note is not at the end")
			}
			d, err := load(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.inflate(1); err != nil || len(d) != 512 {
				t.Errorf("%d pages, %v, want 512", len(d), err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, out := filepath.Join(dir, "empty"), filepath.Join(dir, "out")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	head := testcores.Open(t, "kdump/deb-t1.kdump-zstd")
	for name, args := range map[string][]string{
		"no command":     {},
		"no dump":        {"inflate", empty},
		"no header":      {"make", "zlib", "512", "64", empty, head, out},
		"no compression": {"make", "gzip", "512", "64", head, head, out},
	} {
		if err := run(args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	d := dump{{[]byte("x"), flagZlib}}
	if _, err := d.inflate(1); err == nil {
		t.Error("no error for a damaged page")
	}
}
