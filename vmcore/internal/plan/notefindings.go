package plan

import (
	"debug/elf"
	"fmt"

	"vmcsnote/elfnote"
)

// Registers checks the notes with the CPUs' registers, which begin at the offset
// off: each architecture's are of one size.
func Registers(f *Findings, s *elfnote.Segment, off int64, readers string) {
	first := int64(0)
	for _, e := range s.Notes {
		if e.Name != "CORE" || elf.NType(e.Type) != elf.NT_PRSTATUS {
			continue
		}
		if first == 0 {
			first = e.DescSize
		}
		if e.DescSize == 0 || e.DescSize != first {
			f.Fault(readers, "the NT_PRSTATUS note at %#x holds %d bytes, expected %s", off+e.Off, e.DescSize, sizeOr(first))
		}
	}
}

// KernelNotes checks VMCOREINFO and VMCSINFO: there is one of each, of type 0.
// The readers are those of another type.
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
}

// sizeOr names a size; 0 is none known.
func sizeOr(n int64) string {
	if n == 0 {
		return "a CPU's registers"
	}
	return fmt.Sprintf("%d as in the first", n)
}
