package initramfs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"
)

// member is one file as newc has it; size is what the header says.
func member(name, contents string, size int64) string {
	s := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		1, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	s += strings.Repeat("\x00", -len(s)&3) + contents
	return s + strings.Repeat("\x00", -len(s)&3)
}

// cpio is an archive of files, "NAME=CONTENTS" each.
func cpio(files ...string) string {
	var b strings.Builder
	for _, f := range files {
		name, contents, _ := strings.Cut(f, "=")
		b.WriteString(member(name, contents, int64(len(contents))))
	}
	return b.String() + member(trailer, "", 0)
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

// unzip unpacks gzip; xz is the magic, and then the archive as it is; the rest
// is not there.
func unzip(compression string, r io.Reader) (io.ReadCloser, error) {
	switch compression {
	case "gzip":
		return gzip.NewReader(r)
	case "xz":
		_, err := io.CopyN(io.Discard, r, 2)
		return io.NopCloser(r), err
	}
	return nil, errors.New(compression + " is not installed")
}

// list walks, and gives the files as cpio takes them.
func list(in string) (files []string, err error) {
	err = Walk(strings.NewReader(in), unzip, func(f File) error {
		b, err := io.ReadAll(f.Contents)
		files = append(files, f.Name+"="+string(b))
		return err
	})
	return files, err
}

func TestWalk(t *testing.T) {
	early := cpio("kernel/x86/microcode/GenuineIntel.bin=abc")
	rest := cpio("usr/bin/vmcsnote=\x7fELF", "etc/vmcsnote/record=x")
	both := []string{"kernel/x86/microcode/GenuineIntel.bin=abc", "usr/bin/vmcsnote=\x7fELF", "etc/vmcsnote/record=x"}
	for _, tt := range []struct {
		name, in string
		files    []string
		err      string
	}{
		{"empty", "", nil, ""},
		{"zeros alone", "\x00\x00\x00", nil, ""},
		{"bare", early + rest, both, ""},
		{"bare, zeros between and after", early + strings.Repeat("\x00", 512) + rest + "\x00", both, ""},
		{"with checksums", strings.ReplaceAll(early+rest, "070701", "070702"), both, ""},
		{"a slash or a dot before the names", cpio("./a=1", "/b=2"), []string{"a=1", "b=2"}, ""},
		{"microcode, then gzip", early + zipped(rest), both, ""},
		{"xz alone", "\xfd7" + early + rest, both, ""},
		{"a program that is not there", early + "\x02\x21" + rest, both[:1], "lz4 is not installed"},

		{"something else", "\x7fELF\x02\x01", nil, "found 7f 45 4c 46, expected a cpio archive"},
		{"something after", rest + "abc", both[1:], "found 61 62 63, expected a cpio archive"},
		{"something after in gzip", zipped(rest + "abc"), both[1:], "gzip: found 61 62 63, expected"},
		{"an old kind of cpio", "070707", nil, "found 30 37 30 37, expected"},
		{"a header out of line", rest + "\x00" + rest, both[1:], "found 30 37 30 37, expected"},
		{"no trailer", member("a", "1", 1), []string{"a=1"}, "at 0x74: unexpected EOF"},
		{"no header after a file", member("a", "1", 1) + strings.Repeat("x", 200), []string{"a=1"}, `found "xxxxxx", expected the header`},
		{"contents cut off", member("a", "1234", 9), []string{"a=1234"}, "unexpected EOF"},
		{"a size of 4 GiB", member("a", "1", 0xffffffff), nil, "at 0x70: more than 2147483648 bytes unpacked"},
		{"a size that is none", strings.Replace(rest, "00000004", "0000000x", 1), nil, `found "0000000x", expected 8 hexadecimal digits`},
		{"a name of no bytes", strings.Replace(rest, "00000011", "00000001", 1), nil, "a name of 1 bytes, expected 2 to 4096"},
		{"a name of 4097 bytes", cpio(strings.Repeat("x", 4096)), nil, "a name of 4097 bytes"},
		{"a damaged gzip", zipped(rest)[:40] + "xxx" + zipped(rest)[43:], nil, "gzip: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files, err := list(tt.in)
			if !slices.Equal(files, tt.files) && tt.name != "a damaged gzip" {
				t.Errorf("got %.200q, want %.200q", files, tt.files)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestWalkCutOff: an initramfs that is cut off anywhere is never taken for a
// whole one, but where only zeros are missing or an archive happens to end.
func TestWalkCutOff(t *testing.T) {
	early, rest := cpio("a=1"), cpio("b=2", "c=3")
	end := func(s string) int { return len(strings.TrimRight(s, "\x00")) + 1 } // with the name's own zero
	for name, in := range map[string]string{"bare": early + rest, "gzip": early + zipped(rest)} {
		for n := 1; n < len(in); n++ {
			if n >= end(early) && n <= len(early) || name == "bare" && n >= end(in) {
				continue
			}
			if files, err := list(in[:n]); err == nil {
				t.Errorf("%s, %d of %d bytes: %q and no error", name, n, len(in), files)
			}
		}
	}
}

// TestWalkIsBounded: what is inside counts, not what is on disk.
func TestWalkIsBounded(t *testing.T) {
	for name, in := range map[string]string{
		"contents": member("a", strings.Repeat("x", 2000), 2000),
		"zeros":    strings.Repeat("\x00", 2000),
		"names":    strings.Repeat(member("a", "", 0), 20),
	} {
		w := walker{visit: func(f File) error { _, err := io.Copy(io.Discard, f.Contents); return err }, left: 1000}
		z, err := gzip.NewReader(strings.NewReader(zipped(in)))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.archives(bufio.NewReader(z)); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v, expected errTooLarge", name, err)
		}
	}
}

func TestWalkStops(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	err := Walk(strings.NewReader(cpio("a=1", "b=2")), unzip, func(File) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d visits, %v", n, err)
	}
}

func FuzzWalk(f *testing.F) {
	a := cpio("kernel/x86/microcode/GenuineIntel.bin=abc", "usr/bin/vmcsnote=x")
	for _, s := range []string{a, a + zipped(a), zipped(a) + "\x00", "\xfd7" + a, member("a", "", 99)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		unpacked := int64(0)
		err := Walk(bytes.NewReader(in), unzip, func(f File) error {
			if len(f.Name) >= maxName || strings.ContainsRune(f.Name, 0) {
				t.Fatalf("name %q", f.Name)
			}
			n, err := io.Copy(io.Discard, f.Contents)
			unpacked += n
			if n > f.Size {
				t.Fatalf("%d bytes of %d", n, f.Size)
			}
			return err
		})
		if unpacked > maxUnpacked {
			t.Fatalf("unpacked %d bytes, %v", unpacked, err)
		}
	})
}
