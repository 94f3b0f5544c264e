package plan

import (
	"bytes"
	"debug/elf"
	"fmt"

	"vmcsnote/elfnote"
)

// Registers checks that the notes with the CPUs' registers are of one size, and
// large enough for registers. The notes begin at file offset off, and a word of
// the machine has as many bytes as word says. readers says what goes wrong
// otherwise.
func Registers(f *Findings, s *elfnote.Segment, off int64, word int, readers string) {
	least := int64(32 + 10*word) // what struct elf_prstatus has before pr_reg
	first := int64(0)
	for _, e := range s.Notes {
		if e.Name != "CORE" || elf.NType(e.Type) != elf.NT_PRSTATUS {
			continue
		}
		if first == 0 && e.DescSize > least {
			first = e.DescSize
		}
		if e.DescSize == 0 || e.DescSize != first {
			f.Fault(readers, "the NT_PRSTATUS note at %#x holds %d bytes, expected %s", off+e.Off, e.DescSize, sizeOr(first, least))
		}
	}
}

// KernelNotes checks that there is at most one VMCOREINFO and one VMCSINFO
// note, of type 0, and that VMCOREINFO tells where page tables are. readers
// says what happens with another type.
func KernelNotes(f *Findings, s *elfnote.Segment, off int64, readers string) {
	seen := map[string]int64{}
	for _, e := range s.Notes {
		if e.Name != elfnote.VMCoreInfo && e.Name != elfnote.VMCSInfo {
			continue
		}
		at := off + e.Off
		if first, ok := seen[e.Name]; ok {
			f.Fault("readers differ in which they take", "a second %s note at %#x, the first is at %#x", e.Name, at, first)
		}
		seen[e.Name] = at
		if e.Type != 0 {
			f.Fault(readers, "the %s note at %#x is of type %#x, expected 0", e.Name, at, e.Type)
		}
	}
	const pageTables = "SYMBOL(swapper_pg_dir)="
	if info, err := VMCoreInfo(s); err == nil && info != nil && !bytes.Contains(info, []byte(pageTables)) {
		f.Remark("drgn refuses it, and vmcsnote guests cannot translate the kernel's addresses", "VMCOREINFO has no line %s", pageTables)
	}
}

// sizeOr describes the expected size n. If n is 0, only the least is known.
func sizeOr(n, least int64) string {
	if n == 0 {
		return fmt.Sprintf("more than %d, with a CPU's registers", least)
	}
	return fmt.Sprintf("%d as in the first", n)
}
