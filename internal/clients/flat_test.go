package clients

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// TestFlat adds the note to dumps that makedumpfile -F wrote. Put together by
// makedumpfile -R they must be what the same change gives of the plain core,
// and crash must read them as they are.
func TestFlat(t *testing.T) {
	for _, kernel := range []string{"deb-t1", "cloud-c1"} {
		n, err := elfnote.FromBlob(testcores.Blob(t, kernel), elfnote.VMCSInfo, 0, binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		for how, change := range map[string]func(*testing.T, string, elfnote.Note) string{"copy": copied, "in place": evicted} {
			t.Run(kernel+"/"+how, func(t *testing.T) {
				before := flatDump(t, kernel)
				after := change(t, before, n)
				t.Run("makedumpfile -R", func(t *testing.T) {
					testcores.Tool(t, "makedumpfile")
					want := change(t, testcores.Open(t, kernel+".elf31"), n)
					if !sameFiles(t, rearrange(t, after), want) {
						t.Error("put together it is not what the same change gives of the plain core")
					}
				})
				t.Run("crash --osrelease", func(t *testing.T) {
					testcores.Tool(t, "crash")
					want, _, err := crashRelease(t, flatDump(t, kernel))
					if err != nil || !strings.HasPrefix(want, "6.1") {
						t.Fatalf("of the original it reads %q, %v", want, err)
					}
					got, _, err := crashRelease(t, after)
					if err != nil || got != want {
						t.Errorf("it reads %q, %v; of the original %q", got, err, want)
					}
				})
			})
		}
	}
}

// flatDump makes a file of the kernel's flattened ELF core.
func flatDump(t *testing.T, kernel string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), kernel))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := testcores.Image(t, "flat/"+kernel+".flat-elf31").Expand(f); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func copied(t *testing.T, path string, n elfnote.Note) string {
	f, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := f.CopyTo(t.Context(), out, f.Notes().Insert(n), vmcore.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}

func evicted(t *testing.T, path string, n elfnote.Note) string {
	f, err := vmcore.OpenFileRW(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	only := vmcore.Evict
	p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), only)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// rearrange has makedumpfile put a flattened dump together.
func rearrange(t *testing.T, flat string) string {
	t.Helper()
	in, err := os.Open(flat)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out := filepath.Join(t.TempDir(), "plain")
	cmd := exec.CommandContext(t.Context(), "makedumpfile", "-R", out)
	cmd.Stdin = in
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("makedumpfile -R: %v\n%s", err, said)
	}
	return out
}

func sameFiles(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
