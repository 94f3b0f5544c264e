package elfcore_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
	"testing"

	"vmcsnote/internal/coretext"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/faults"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestUnusedHeaders: a copy keeps unused program headers byte for byte. One
// that once was a PT_LOAD moves along with its bytes, for crash reads them.
func TestUnusedHeaders(t *testing.T) {
	for _, name := range []string{"unused-phdrs", "unused-odd"} {
		t.Run(name, func(t *testing.T) {
			before := testcores.Bytes(t, name)
			c, err := elfcore.Open(bytes.NewReader(before), int64(len(before)))
			if err != nil {
				t.Fatal(err)
			}
			l, err := c.PlanCopy(c.Notes().Insert(testdumps.Note(t, name)))
			if err != nil {
				t.Fatal(err)
			}
			var after bytes.Buffer
			if err := (&plan.Streamer{Ctx: t.Context(), W: &after, R: bytes.NewReader(before), Buf: make([]byte, plan.BufSize)}).Run(l); err != nil {
				t.Fatal(err)
			}
			unused := 0
			for i, p := range c.Progs {
				if p.Type != elf.PT_NULL {
					continue
				}
				unused++
				was := before[c.ProgOff(i):][:c.Phentsize]
				got := after.Bytes()[c.ProgOff(i):][:c.Phentsize]
				if p.Off != 0 {
					if now := c.Prog(got); now.Off != p.Off+uint64(l.Shift) {
						t.Errorf("phdr[%d] has p_offset %#x, want %#x", i, now.Off, p.Off+uint64(l.Shift))
					}
					c.PutWord(got, c.Layout.POff, p.Off)
				}
				if !bytes.Equal(got, was) {
					t.Errorf("phdr[%d] is %x, want %x", i, got, was)
				}
			}
			if unused != 3 || l.Shift == 0 {
				t.Errorf("%d unused headers, shift %#x", unused, l.Shift)
			}
		})
	}
}

// TestUnusedHole: a sparse file whose program header table is a hole opens
// nothing and fills no memory.
func TestUnusedHole(t *testing.T) {
	b, err := coretext.Build([]byte("elf xnum=0x200000 shdrs=64\nnotes\nload size=16\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = elfcore.Open(&faults.Version{Base: bytes.NewReader(b), Size: int64(len(b)), Edits: []faults.Edit{{Size: 1 << 30}}}, 1<<30)
	if want := fmt.Sprintf("more than %d unused", elfcore.MaxUnused); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want %q", err, want)
	}
}

// TestIncomplete: e_flags marks an unfinished dump, but not a process's core.
func TestIncomplete(t *testing.T) {
	const core, process = "note name=CORE type=NT_PRSTATUS desc=zero:336\n", "note name=CORE type=NT_PRPSINFO desc=zero:136\n"
	const info = "note name=VMCOREINFO desc=\"OSRELEASE=6.1.0\"\n"
	for _, tc := range []struct {
		name, flags, notes, paddr string
		want                      bool
	}{
		{"makedumpfile -E", "e_flags=1", core + info, "0x1000", true},
		{"makedumpfile -E of a kernel without VMCOREINFO", "e_flags=1", core, "0x1000", true},
		{"makedumpfile -E of /proc/kcore", "e_flags=1", core + process + info, "0x1000", true},
		{"a finished dump", "e_flags=0", core + info, "0x1000", false},
		{"a RISC-V process, EF_RISCV_RVC", "e_machine=EM_RISCV e_flags=5", core + process, "0", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := coretext.Build([]byte("elf " + tc.flags + "\nnotes\n" + tc.notes + "load size=64 p_vaddr=0x1000 p_paddr=" + tc.paddr + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			said := false
			for _, f := range c.Verify() {
				said = said || strings.Contains(f.Text, "DUMP_ELF_INCOMPLETE")
			}
			if c.Incomplete() != tc.want || said != tc.want {
				t.Errorf("Incomplete is %v and verify says so: %v, want %v", c.Incomplete(), said, tc.want)
			}
		})
	}
}
