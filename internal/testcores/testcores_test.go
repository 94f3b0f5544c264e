package testcores

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCores opens every core, and with debug/elf those that are neither bad nor
// beyond it.
func TestCores(t *testing.T) {
	for _, name := range Names(t, "*") {
		t.Run(name, func(t *testing.T) {
			im := Image(t, name)
			if im.Size() == 0 || im.Data() == 0 {
				t.Errorf("%d bytes, %d of them not zero", im.Size(), im.Data())
			}
			if strings.HasSuffix(name, ".blob") || strings.HasPrefix(name, "bad-") || strings.HasPrefix(name, "xnum-") ||
				name == "offset-minus1" || name == "sections-swapped" || name == "deb-d1.qemu-elf-p.thin" {
				return
			}
			f, err := elf.NewFile(im)
			if err != nil {
				t.Fatal(err)
			}
			if f.Type != elf.ET_CORE || f.Progs[0].Type != elf.PT_NOTE {
				t.Errorf("a %v whose first program header is a %v", f.Type, f.Progs[0].Type)
			}
			notes := make([]byte, f.Progs[0].Filesz)
			if _, err := f.Progs[0].ReadAt(notes, 0); err != nil {
				t.Fatal(err)
			}
			process := strings.HasPrefix(name, "gcore") || strings.HasPrefix(name, "process-")
			wantInfo := name != "no-vmcoreinfo" && !process
			if bytes.Contains(notes, []byte("VMCOREINFO\x00")) != wantInfo || bytes.Contains(notes, []byte("OSRELEASE=")) != wantInfo {
				t.Errorf("VMCOREINFO: want %v", wantInfo)
			}
		})
	}
}

// TestReadme wants a row for every core made of text.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(dir(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	texts, err := filepath.Glob(filepath.Join(dir(t), "*"+textExt))
	if err != nil || len(texts) == 0 {
		t.Fatal(texts, err)
	}
	for _, path := range texts {
		name := strings.TrimSuffix(filepath.Base(path), textExt)
		if !bytes.Contains(readme, []byte("\n| "+name+" | ")) {
			t.Errorf("README.md has no row for %s", name)
		}
	}
}

func TestOpen(t *testing.T) {
	path := Open(t, "deb-t1.thin")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != 423288832 || used > 1<<20 {
		t.Errorf("%d bytes, %d of them on disk", info.Size(), used)
	}
	Same(t, path, "deb-t1.thin")

	small := Open(t, "single-load")
	b, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Bytes(t, "single-load")) {
		t.Error("Open and Bytes are not of one mind")
	}
}

// TestPair finds in every core's memory what its pair points to: the blob.
func TestPair(t *testing.T) {
	for _, name := range []string{"deb-t1.thin", "cloud-c1.thin", "deb-t4-smp4.thin", "deb-d1.qemu-elf.thin", "deb-d1.qemu-range", "deb-t1.elf31"} {
		t.Run(name, func(t *testing.T) {
			var addr, size uint64
			if _, err := fmt.Sscanf(Pair(t, name), "%x %x\n", &addr, &size); err != nil {
				t.Fatal(err)
			}
			blob := Blob(t, name)
			if uint64(len(blob)) != size || string(blob[12:20]) != "VMCSINFO" {
				t.Fatalf("a blob of %d bytes, beginning with %q; its pair says %d", len(blob), blob[:20], size)
			}
			f, err := elf.NewFile(Image(t, name))
			if err != nil {
				t.Fatal(err)
			}
			memory := make([]byte, size)
			for _, prog := range f.Progs {
				if prog.Type == elf.PT_LOAD && prog.Paddr <= addr && addr < prog.Paddr+prog.Filesz {
					// The file may end, or makedumpfile have left the second
					// page out, after the note's page.
					if n, err := prog.ReadAt(memory, int64(addr-prog.Paddr)); n < 4096 {
						t.Fatal(err)
					}
				}
			}
			if !bytes.Equal(memory[:4096], blob[:4096]) {
				t.Errorf("at %#x: %x, want %x", addr, memory[:32], blob[:32])
			}
		})
	}
}

// recorder stands in for a test that may fail.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); panic(r) }
func (r *recorder) Fatal(args ...any)                 { r.said += fmt.Sprint(args...); panic(r) }

// saying returns what f says to a test that it fails, "" if it does not.
func saying(t *testing.T, f func(testing.TB)) string {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		f(r)
	}()
	return r.said
}

func TestGolden(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "file")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compare := func(t testing.TB) { golden(t, dir, path, "case.one", false) }

	write("a golden file")
	if said := saying(t, compare); !strings.Contains(said, "case.one.sparse.gz") || !strings.Contains(said, "-update") {
		t.Errorf("without a golden file: %q", said)
	}
	golden(t, dir, path, "case.one", true)
	if said := saying(t, compare); said != "" {
		t.Errorf("with the same: %q", said)
	}
	write("a golden mile")
	if said := saying(t, compare); !strings.Contains(said, "golden/case.one: offset 0x9: got 6d") {
		t.Errorf("with another: %q", said)
	}
}

func TestHelpersFail(t *testing.T) {
	tests := []struct {
		name string
		call func(testing.TB)
		want string
	}{
		{"Open", func(t testing.TB) { Open(t, "no-such-core") }, "no core no-such-core"},
		{"Bytes", func(t testing.TB) { Bytes(t, "deb-t1.thin") }, "too many for Bytes"},
		{"Pair", func(t testing.TB) { Pair(t, "deb-t8-none.head") }, "deb-t8-none.pair"},
		{"Names", func(t testing.TB) { Names(t, "no-such-*") }, `no core matches "no-such-*"`},
		{"Same", func(r testing.TB) { Same(r, Open(t, "single-load"), "overlap") }, "is not the core overlap: offset"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if said := saying(t, test.call); !strings.Contains(said, test.want) {
				t.Errorf("it says %q, want %q", said, test.want)
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"text.core": "elf\nload sise=1", "packed.sparse.gz": "garbage garbage", "host.elf.zst": "garbage"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"text":   "text.core: line 2: load",
		"packed": "packed.sparse.gz: not a packed file",
		"host":   "host.elf.zst: ",
	} {
		if im, err := Load(dir, name); err == nil || !strings.Contains(err.Error(), want) || im != nil {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if im, err := Load(dir, "missing"); err == nil || im != nil {
		t.Errorf("missing: got %v, %v", im, err)
	}
}
