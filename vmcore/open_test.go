package vmcore

import (
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
)

func TestOpenNotELF(t *testing.T) {
	for _, tc := range []struct{ name, bytes, want string }{
		{"empty", "", "found an empty file, expected an ELF core, or a kdump-compressed or flattened dump"},
		{"unknown", "\x01hello, world", "found 01 68 65 6c 6c 6f 2c 20"},
		{"text", "hello, world", "found a text, such as a kernel log, expected an ELF core"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(strings.NewReader(tc.bytes), int64(len(tc.bytes)))
			if !errors.Is(err, ErrNotCore) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want ErrNotCore with %q", err, tc.want)
			}
		})
	}
}

func TestOpenFileRefuses(t *testing.T) {
	path := testcores.Open(t, "kernel-slack")
	if _, err := OpenFileRW(t.TempDir()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("directory: %v", err)
	}
	first := mustOpen(t, path, OpenFileRW)
	if _, err := OpenFileRW(path); !errors.Is(err, ErrBusy) {
		t.Errorf("second writer: %v", err)
	}
	if _, err := OpenFile(path); !errors.Is(err, ErrBusy) {
		t.Errorf("reader beside a writer: %v", err)
	}
	first.Close()
	mustOpen(t, path, OpenFile)
	mustOpen(t, path, OpenFile) // readers may be many
}
