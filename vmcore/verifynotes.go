package vmcore

import (
	"debug/elf"
	"fmt"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// notes checks the notes themselves.
func (v *verifier) notes() {
	c, s := v.c, v.c.Notes()
	if s.Fill < s.Size {
		v.Fault(v.by("readelf calls them corrupt, crash warns, libkdumpfile loses notes behind", "readelf calls them corrupt"),
			"%d bytes of zero fill at offset %#x within the notes", s.Size-s.Fill, c.NotesOff()+s.Fill)
	}
	if n := s.Size % s.Align; n != 0 && s.Fill == s.Size {
		v.Fault(v.by("readelf, eu-readelf and drgn lose it", "readelf and eu-readelf lose it"), "the padding of the last note lacks %d bytes at offset %#x", s.Align-n, c.NotesOff()+s.Size)
	}
	for _, g := range s.Gaps {
		v.Fault("crash, eu-readelf and drgn lose the notes behind", "%d zero bytes at offset %#x stand between notes", g.Size, c.NotesOff()+g.Off)
	}
	registers(&v.Findings, c.notes, c.NotesOff(), v.by("crash counts it as a CPU, gdb does not", "gdb does not know the thread"))
	kernelNotes(&v.Findings, c.notes, c.NotesOff(), v.by("crash takes type 1 for a CPU's registers, 0x700 for a device dump", "gdb takes type 1 for a thread's registers"))
	for _, e := range s.Notes {
		off := c.NotesOff() + e.Off
		if e.NameSize > 0 && e.NameSize == int64(len(e.Name)) && !v.process {
			v.Fault("drgn does not know it by this name", "the name of the note at %#x has no NUL at its end", off)
		}
		if len(e.Name) > 15 && !v.process {
			v.Remark("makedumpfile skips it", "the note at %#x has a name of %d bytes, expected at most 15", off, len(e.Name))
		}
	}
	// makedumpfile reads a header and 15 bytes of name for every note.
	if n := len(s.Notes); n > 0 && !v.process && c.NotesOff()+s.Notes[n-1].Off+elfnote.HeaderSize+15 > c.Size {
		v.Fault("makedumpfile fails to read it", "the file ends within 27 bytes of the last note's start")
	}
}

// registers checks the notes with the CPUs' registers, which begin at the offset
// off: each architecture's are of one size.
func registers(f *plan.Findings, s *elfnote.Segment, off int64, readers string) {
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

// kernelNotes checks VMCOREINFO and VMCSINFO: there is one of each, of type 0.
// The readers are those of another type.
func kernelNotes(f *plan.Findings, s *elfnote.Segment, off int64, readers string) {
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
