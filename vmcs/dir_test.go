package vmcs

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pkg/errors"
)

// files makes a file system of names and contents.
func files(pairs ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func TestParseDir(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fsys     fs.FS
		revision uint32
		name0    string // of the first entry
		offset   int
		warning  string
	}{
		{"version 3, no revision id", files("vmcs/0802", "1a0\n"), 0, "GUEST_CS_SELECTOR", 0x1a0, "revision id"},
		{"version 4", files("vmcs_id", "12\n", "vmcs/0802", "1a0\n", "online", "0-3\n"), 0x12, "GUEST_CS_SELECTOR", 0x1a0, ""},
		{"later, seen from above", files("vmcs/id", "0x12\n", "vmcs/0802", "1a0\n"), 0x12, "GUEST_CS_SELECTOR", 0x1a0, ""},
		{"later, the directory itself", files("id", "12\n", "0802", "1a0\n", "uevent", ""), 0x12, "GUEST_CS_SELECTOR", 0x1a0, ""},
		{"fields the processor lacks", files("id", "12", "0800", "0", "0802", "0x1a0", "0804", "0x0"), 0x12, "GUEST_CS_SELECTOR", 0x1a0, ""},
		{"no name for the encoding", files("id", "12", "20FE", "1a0"), 0x12, "0x20fe", 0x1a0, ""},
		{"decimal, by size", files("id", "12", "0802", "4000"), 0x12, "GUEST_CS_SELECTOR", 4000, ""},
		{"decimal, by alignment", files("id", "12", "4802", "116"), 0x12, "GUEST_CS_LIMIT", 116, ""},
		{"hexadecimal, by alignment", files("id", "12", "4802", "118", "681e", "150"), 0x12, "GUEST_CS_LIMIT", 0x118, ""},
		{"one that is no number", files("id", "12", "0800", "1b0", "0802", "none"), 0x12, "GUEST_ES_SELECTOR", 0x1b0, "file 0802"},
		{"one that is no encoding", files("id", "12", "0800", "1b0", "ffff", "1a0"), 0x12, "GUEST_ES_SELECTOR", 0x1b0, "file ffff"},
		{"one outside the page", files("id", "12", "0800", "1b0", "681e", "ffc"), 0x12, "GUEST_ES_SELECTOR", 0x1b0, "file 681e: GUEST_RIP at 0xffc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseDir(tt.fsys)
			if err != nil {
				t.Fatal(err)
			}
			if l.RevisionID != tt.revision || l.Form != FormDirectory || l.Entries[0].Name != tt.name0 || l.Entries[0].Offset != tt.offset {
				t.Errorf("revision id %#x, form %v, %+v", l.RevisionID, l.Form, l.Entries[0])
			}
			if (tt.warning == "") != (len(l.Warnings) == 0) || !strings.Contains(strings.Join(l.Warnings, "\n"), tt.warning) {
				t.Errorf("warnings %q, expected %q", l.Warnings, tt.warning)
			}
		})
	}
}

func TestParseDirRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		fsys fs.FS
		err  error
		says string
	}{
		{"empty", files(), ErrLayout, "no files named by the four hexadecimal digits"},
		{"another directory", files("cpu0/online", "1", "possible", "0-3"), ErrLayout, "no files named"},
		{"all lacking", files("id", "12", "0802", "0"), ErrLayout, "or all are 0"},
		{"decimal or hexadecimal", files("id", "12", "0802", "100", "681e", "200"), ErrAmbiguous, "file 0802: 100"},
		{"empty file", files("id", "12", "0802", "\n"), ErrLayout, `0802: "", expected a number`},
		{"endless file", files("id", "12", "0802", strings.Repeat("1", 1<<20)), ErrLayout, "expected a number"},
		{"revision id of 32 bits", files("id", "80000012", "0802", "1a0"), ErrLayout, `id: "80000012", expected`},
		{"a directory for a field", files("id", "12", "0802/x", "1a0"), nil, "0802"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseDir(tt.fsys)
			if l != nil || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, %v, expected %q", l, err, tt.says)
			}
			if tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%v is not %v", err, tt.err)
			}
		})
	}
}
