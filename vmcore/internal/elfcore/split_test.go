package elfcore_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/coretext"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/plan"
)

const (
	splitNotes = "note name=CORE type=NT_PRSTATUS desc=zero:336\nnote name=VMCOREINFO desc=\"OSRELEASE=6.1.0\\nSYMBOL(swapper_pg_dir)=ffffffff82e10000\\n\"\n"
	splitLoads = "load p_vaddr=0x100000 p_paddr=0x100000 size=0x8000\nload p_vaddr=0x200000 p_paddr=0x200000 size=0x1000\n"
)

var splitNote = elfnote.Note{Name: elfnote.VMCSInfo, Desc: bytes.Repeat([]byte("FIELD(X)=0\n"), 400)}

// TestSplitRefused: where a split is not safe, nothing is planned.
func TestSplitRefused(t *testing.T) {
	roomy, tight := "elf\nnotes at=0x400\n"+splitNotes, "elf\nnotes\n"+splitNotes
	fill := "notes at=0x1000\n" + splitNotes
	sections := "elf shdrs=0xa100\nnotes at=0x400\n" + splitNotes + "load at=0x1000 p_paddr=0x100000 size=0x8000\nload at=0x9000 p_paddr=0x200000 size=0x1000\n"
	manyLoads := "load p_vaddr=0x200000 p_paddr=0x200000 size=0x1000\n"
	for _, tt := range []struct {
		name, text string
		want       string // "" if a split is planned
	}{
		{"room after the program headers", roomy + splitLoads, ""},
		{"QEMU's section headers", "elf phdrs=192 shdrs=64\nnotes\n" + splitNotes + splitLoads + "section name=.shstrtab", ""},
		{"notes directly after the program headers", tight + splitLoads, "one more program header would end at"},
		{"other bytes after the program headers", roomy + splitLoads + "patch at=232 bytes=hex:01", "are not zero"},
		{"a section after the program headers", sections + "section name=x at=0xf0 sh_type=SHT_PROGBITS bytes=zero:8\nsection name=.shstrtab at=0xa000", "no room for one more program header"},
		{"a section in the room", sections + "section name=x at=0x700 sh_type=SHT_PROGBITS sh_size=8\nsection name=.shstrtab at=0xa000", "section or table"},
		{"PN_XNUM", strings.Replace(sections, "elf", "elf xnum", 1), "PN_XNUM"},
		{"bytes after the end", roomy + splitLoads + "patch at=0xb000 bytes=hex:00", "by its headers"},
		{"cut off", roomy + splitLoads + "truncate size=0x9000", "by its headers"},
		{"a small first segment", roomy + "load p_paddr=0x100000 size=0x2000\nload p_paddr=0x200000 size=0x8000\n", "expected more than"},
		{"a shared byte", roomy + splitLoads + "load p_paddr=0x300000 p_offset=0x1000 p_filesz=16 p_memsz=16 size=0\n", "shares bytes"},
		{"a segment without bytes", roomy + splitLoads + "load p_paddr=0x300000 p_offset=0x800 p_filesz=0 p_memsz=16 size=0\n", "not a plain PT_LOAD"},
		{"the first segment's header beyond the sector", "elf round=0x1000\n" + fill +
			strings.Repeat("load at=0x20000 p_paddr=0x200000 size=0x1000\n", 9) + "load at=0x2000 p_paddr=0x100000 size=0x8000\n", "change in one write"},
		{"many segments", "elf round=0x1000\n" + fill + "load p_paddr=0x100000 size=0x8000\n" + strings.Repeat(manyLoads, 60), ""},
		{"a process's core", "elf\nnotes at=0x400\nnote name=CORE type=NT_PRSTATUS desc=zero:336\nload p_vaddr=0x100000 size=0x8000\n", "a process's core"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := coretext.Build([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.PlanSplit(c.Notes().Append(splitNote))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.Is(err, plan.ErrNoPlace) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestSplitHeaders: what a split core's headers say, and that only such a core
// is taken for one: if anything else is changed in it, a removal takes the note
// out and joins nothing.
func TestSplitHeaders(t *testing.T) {
	b, err := coretext.Build([]byte("elf\nnotes at=0x400\n" + splitNotes + splitLoads))
	if err != nil {
		t.Fatal(err)
	}
	split := run(t, b, func(c *elfcore.ELF) (*plan.InPlace, error) { return c.PlanSplit(c.Notes().Append(splitNote)) })
	c := open(t, split)
	first, piece := c.Progs[1], c.Progs[3]
	if first.Paddr != 0x102000 || first.Vaddr != 0x102000 || piece.Paddr != 0x100000 || piece.Vaddr != 0x100000 ||
		piece.Filesz != 0x2000 || first.Filesz != 0x6000 || c.Verify() != nil {
		t.Errorf("phdr[1] %+v, phdr[3] %+v, %v", first, piece, c.Verify())
	}
	at := func(phdr, field int) int { return 64 + 56*phdr + field }
	const off, vaddr, paddr, filesz, memsz, flags = 8, 16, 24, 32, 40, 4
	for _, tt := range []struct {
		name  string
		patch int // the word there is changed
		by    uint64
		joins bool
	}{
		{"as it is", at(0, vaddr), 0, true},
		{"p_paddr of the first pages", at(3, paddr), 0x1000, false},
		{"p_vaddr of the first pages", at(3, vaddr), 0x1000, false},
		{"p_memsz of the first pages", at(3, memsz), 0x1000, false},
		{"p_filesz of the first pages", at(3, filesz), ^uint64(0xfff), false},
		{"p_flags of the first pages", at(3, flags) - 4, 1 << 32, false},
		{"p_paddr of the rest", at(1, paddr), 0x1000, false},
		{"p_filesz of another", at(2, filesz), ^uint64(0xfff), false},
		{"p_offset of the first pages", at(3, off), 4, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(split)
			binary.LittleEndian.PutUint64(b[tt.patch:], binary.LittleEndian.Uint64(b[tt.patch:])+tt.by)
			c := open(t, b)
			i := len(c.Notes().Notes) - 1
			_, err := c.PlanSplit(c.Notes().Remove(i))
			l, lerr := c.PlanCopy(c.Notes().Remove(i))
			if tt.joins != (err == nil) || lerr != nil || l.Joined != tt.joins {
				t.Errorf("joins in place: %v; copy: %+v, %v", err, l, lerr)
			}
		})
	}
}

// TestSplitTwoNotes: the core stays split until the notes fit where they were.
func TestSplitTwoNotes(t *testing.T) {
	for _, name := range []string{"elf\nnotes at=0x400\n", "elf phdrs=192 shdrs=64\nnotes\n"} {
		b, err := coretext.Build([]byte(name + splitNotes + splitLoads + map[bool]string{true: "section name=.shstrtab"}[strings.Contains(name, "shdrs")]))
		if err != nil {
			t.Fatal(err)
		}
		small := elfnote.Note{Name: "OTHER", Desc: make([]byte, 40)}
		now := run(t, b, func(c *elfcore.ELF) (*plan.InPlace, error) { return c.PlanSplit(c.Notes().Append(splitNote)) })
		now = run(t, now, func(c *elfcore.ELF) (*plan.InPlace, error) { return c.PlanSlack(c.Notes().Append(small)) })
		now = run(t, now, func(c *elfcore.ELF) (*plan.InPlace, error) {
			i, _ := c.Notes().Find(small.Name, 0)
			if _, err := c.PlanSplit(c.Notes().Remove(i)); !errors.Is(err, plan.ErrNoPlace) {
				t.Errorf("with VMCSINFO still there: %v", err)
			}
			if l, err := c.PlanCopy(c.Notes().Remove(i)); err != nil || l.Shift != 0 || l.Joined {
				t.Errorf("with VMCSINFO still there: %+v, %v", l, err)
			}
			return c.PlanSlack(c.Notes().Remove(i))
		})
		now = run(t, now, func(c *elfcore.ELF) (*plan.InPlace, error) {
			i, _ := c.Notes().Find(splitNote.Name, 0)
			return c.PlanSplit(c.Notes().Remove(i))
		})
		if !bytes.Equal(now, b) {
			t.Errorf("%s: not the original again", name)
		}
	}
}

func open(t *testing.T, b []byte) *elfcore.ELF {
	t.Helper()
	c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run carries a plan for the core b out, and returns what becomes of it.
func run(t *testing.T, b []byte, how func(*elfcore.ELF) (*plan.InPlace, error)) []byte {
	t.Helper()
	p, err := how(open(t, b))
	if err != nil {
		t.Fatal(err)
	}
	j := &faults.Journal{Base: bytes.NewReader(b), Size: int64(len(b))}
	if err := p.Run(t.Context(), j, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	return whole(t, j.Now())
}
