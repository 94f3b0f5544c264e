package vmcore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/coretext"
	"vmcsnote/vmcore/internal/plan"
)

// TestSectionHeaders: cores whose e_shoff leads nowhere, or whose sections lie
// where the notes grow, are changed the same in place, by -o and in a stream,
// and a removal gives the original back.
func TestSectionHeaders(t *testing.T) {
	notes := "\nnotes at=0x1000\nnote name=CORE type=NT_PRSTATUS desc=zero:336\n" +
		"load at=0x2000 p_vaddr=0x400000 p_paddr=0x400000 size=0x3000\nload at=0x5000 p_vaddr=0x600000 p_paddr=0x600000 size=0x3000\n"
	for name, text := range map[string]string{
		"e_shoff at the end of the file": "elf e_shoff=0x8000" + notes,
		"e_shoff after the end":          "elf e_shoff=0x100000" + notes,
		"e_shoff in memory":              "elf e_shoff=0x2800" + notes,
		"e_shoff in the room":            "elf e_shoff=0x1800" + notes,
		"section of zeros in the room":   "elf shdrs=0x9000" + notes + "section name=x at=0x1164 sh_type=SHT_PROGBITS bytes=zero:64\nsection name=.shstrtab at=0x8800",
		"section farther in the room":    "elf shdrs=0x9000" + notes + "section name=x at=0x1f00 sh_type=SHT_PROGBITS bytes=zero:64\nsection name=.shstrtab at=0x8800",
		"section into memory":            "elf shdrs=0x9000" + notes + "section name=x at=0x1f00 sh_type=SHT_PROGBITS sh_size=0x1000\nsection name=.shstrtab at=0x8800",
		"section headers before":         "elf shdrs=0x100" + notes + "section name=x at=0x1180 sh_type=SHT_PROGBITS bytes=zero:64\nsection name=.shstrtab at=0x8800",
		"section of the first note":      "elf shdrs=0x9000" + notes + "section name=x at=0x1000 sh_type=SHT_NOTE sh_size=0x164\nsection name=.shstrtab at=0x8800",
	} {
		for size, n := range map[string]elfnote.Note{"small": {Name: elfnote.VMCSInfo, Desc: make([]byte, 100)}, "large": {Name: elfnote.VMCSInfo, Desc: make([]byte, 5000)}} {
			t.Run(name+"/"+size, func(t *testing.T) {
				b, err := coretext.Build([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				insert := func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(n), nil }
				remove := func(c Core) (elfnote.Splice, error) {
					i, ok := c.Notes().Find(n.Name, 0)
					if !ok {
						t.Fatal("the note is not there")
					}
					return c.Notes().Remove(i), nil
				}
				copied := copyBytes(t, b, insert)
				if got := streamBytes(t, b, insert); !bytes.Equal(got, copied) {
					t.Error("a stream gives another copy than a file")
				}
				if got := copyBytes(t, copied, remove); !bytes.Equal(got, b) {
					t.Error("-o: not the original again")
				}
				if got := streamBytes(t, copied, remove); got != nil && !bytes.Equal(got, b) {
					t.Error("stream: not the original again")
				}
				path := filepath.Join(t.TempDir(), "core")
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				way := inPlace(t, path, insert)
				inPlace(t, path, remove)
				if got, err := os.ReadFile(path); err != nil || way != Evict && !bytes.Equal(got, b) {
					t.Errorf("%s: not the original again, %v", way, err)
				}
			})
		}
	}
}

// copyBytes is -o, for a core in memory.
func copyBytes(t *testing.T, b []byte, edit Edit) []byte {
	t.Helper()
	c, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	sp, err := edit(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.PlanCopy(sp)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := &plan.Streamer{Ctx: t.Context(), W: &out, R: bytes.NewReader(b), Buf: make([]byte, plan.BufSize)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// streamBytes is -o - -; nil where the stream is refused before anything was
// written.
func streamBytes(t *testing.T, b []byte, edit Edit) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := Stream(t.Context(), &out, struct{ io.Reader }{bytes.NewReader(b)}, edit)
	var refused *Unwritten
	if errors.As(err, &refused) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// inPlace changes a core in place, the cheapest way, and returns which it was.
func inPlace(t *testing.T, path string, edit Edit) Placement {
	t.Helper()
	f, err := OpenFileRW(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sp, err := edit(f.Core)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Plan(sp, sp, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return p.Placement
}
