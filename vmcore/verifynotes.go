package vmcore

import (
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
	plan.Registers(&v.Findings, c.notes, c.NotesOff(), v.by("crash counts it as a CPU, gdb does not", "gdb does not know the thread"))
	plan.KernelNotes(&v.Findings, c.notes, c.NotesOff(), v.by("crash takes type 1 for a CPU's registers, 0x700 for a device dump", "gdb takes type 1 for a thread's registers"))
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
