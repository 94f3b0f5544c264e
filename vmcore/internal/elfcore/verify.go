package elfcore

import (
	"debug/elf"
	"math"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/plan"
)

// Verify implements vmcore.Core. What readers need of an ELF core was measured
// with crash 8.0, makedumpfile 1.7, libkdumpfile 0.5.1, drgn 0.0.22, readelf
// 2.40 and eu-readelf 0.188. A sound core by the kernel, by makedumpfile or by
// QEMU gives remarks at most.
//
// A process's core is checked for what gdb 13, eu-stack 0.188 and readelf need
// of it, which was measured, too.
func (c *ELF) Verify() []plan.Finding {
	v := &Verifier{C: c, process: c.Process()}
	v.file()
	if v.process {
		v.processHeaders()
	} else {
		v.headers()
		v.place()
	}
	v.Segments()
	v.Shared()
	v.notes()
	return v.Found
}

// A Verifier collects what is wrong with a core.
type Verifier struct {
	plan.Findings
	C       *ELF
	process bool
}

// by returns the readers that fail: machine, or process if the core is a
// process's.
func (v *Verifier) by(machine, process string) string {
	if v.process {
		return process
	}
	return machine
}

// file checks that the dump is complete.
func (v *Verifier) file() {
	c := v.C
	if end := c.Claimed(); end > c.Size {
		v.Fault(v.by("crash and makedumpfile refuse or lose memory, libkdumpfile reads zeros", "gdb warns and lacks memory, eu-stack may lack frames"),
			"the file ends at %#x, expected %#x by its headers: it is truncated", c.Size, end)
	}
	if c.Incomplete() && !v.process {
		v.Fault("crash warns; memory is missing", "e_flags says that makedumpfile could not finish the dump (DUMP_ELF_INCOMPLETE)")
	}
	table := c.allSections()
	if c.Shoff != 0 && c.Shnum == 0 {
		v.Fault("Go's debug/elf fails, readelf warns", "e_shoff is %#x and e_shnum 0, expected both or none", c.Shoff)
		return
	}
	if c.Shoff != 0 && !table.Within(c.Size) {
		v.Fault("readelf and Go's debug/elf fail", "section header table (%v) reaches beyond the file's %#x bytes", table, c.Size)
		return
	}
	sections, err := c.sections()
	if err != nil {
		v.Fault("readelf and Go's debug/elf fail", "section headers: %v", err)
	}
	swapped := 0
	c.eachSection(func(b []byte) { // an error was reported above
		if c.sectionHeader(b).Order != c.Order {
			swapped++
		}
	})
	if swapped > 0 {
		v.Remark("readelf and eu-readelf show no section names",
			"the byte order of section headers (%d) is not the dump's: QEMU writes them in the order of its host", swapped)
	}
	for _, s := range sections {
		if !s.Within(c.Size) {
			v.Fault("readelf and Go's debug/elf fail", "a section (%v) reaches beyond the file's %#x bytes", s, c.Size)
		} else if s.Overlaps(c.notesExtent()) {
			v.sharing(s)
		}
	}
	if err := c.checkEnds(); err != nil {
		v.Fault("no reader finds that memory", "%v", err)
	} else if err := c.checkDisjoint(); err != nil {
		v.Fault("readers see one as the other", "%v", err)
	}
}

// sharing checks a section that shares bytes with the notes: one for the notes,
// as gdb writes, must be of all of them.
func (v *Verifier) sharing(s section) {
	notes := v.C.notesExtent()
	switch {
	case s.Extent == notes:
	case s.typ == elf.SHT_NOTE && s.Off == notes.Off:
		v.Fault("eu-readelf goes by the section, gdb and readelf by the PT_NOTE", "the notes' section has %#x bytes, expected %#x as the PT_NOTE", s.Size, notes.Size)
	case s.typ == elf.SHT_NOTE && s.Off > notes.Off && s.Off+s.Size <= notes.Off+notes.Size:
	default:
		v.Fault("readers see one as the other", "a section (%v) shares bytes with the notes (%v)", s.Extent, notes)
	}
}

// processHeaders is headers and place for a process's core: gdb and eu-stack
// find everything wherever it lies.
func (v *Verifier) processHeaders() {
	c := v.C
	if c.Phentsize != c.Layout.Phentsize {
		v.Fault("gdb and readelf refuse it", "e_phentsize is %d, expected %d", c.Phentsize, c.Layout.Phentsize)
	}
	if c.Phnum >= pnXnum {
		v.Remark("Go's debug/elf sees 65535", "%d program headers, by PN_XNUM", c.Phnum)
	}
	if a := c.Progs[c.Note].Align; a > 4 && c.notes.Align != 8 {
		v.Fault("gdb, eu-stack and readelf lose notes", "p_align of the PT_NOTE is %d, expected 0 to 4", a)
	}
}

// headers checks the place and the order of the program headers.
func (v *Verifier) headers() {
	c := v.C
	// makedumpfile computes their place. crash allows for 128 bytes in between,
	// which is where QEMU (since it writes sections) has its section headers.
	switch want := c.Layout.Ehsize; {
	case c.Phoff == want:
	case c.Shoff == want && c.Phoff == want+c.Shnum*c.Shentsize && c.Phoff <= want+128:
		v.Remark("makedumpfile reads other bytes for program headers", "e_phoff is %#x, expected %#x: QEMU puts section headers before them", c.Phoff, want)
	default:
		v.Fault("crash and makedumpfile read other bytes for program headers", "e_phoff is %#x, expected %#x", c.Phoff, want)
	}
	if c.Phentsize != c.Layout.Phentsize {
		v.Fault("crash and makedumpfile read other bytes for program headers", "e_phentsize is %d, expected %d", c.Phentsize, c.Layout.Phentsize)
	}
	if c.Phnum >= pnXnum {
		v.Remark("Go's debug/elf sees 65535", "%d program headers, by PN_XNUM", c.Phnum)
	}
	if c.Note != 0 {
		v.Fault("crash takes it for memory", "phdr[%d] is the PT_NOTE, expected phdr[0]", c.Note)
	}
	// crash starts with phdr[1] when it looks for the lowest p_offset, and
	// stays with 0 if it finds that there.
	if len(c.Progs) > 1 && c.Progs[1].Off == 0 {
		v.Remark("crash 8.0 cannot open it", "phdr[1] has p_offset 0, as makedumpfile -E writes it for memory that it left out")
	}
	for i, p := range c.Progs {
		switch {
		case i == c.Note || p.Type == elf.PT_LOAD:
		case p.Type == elf.PT_NULL && p.Off == 0: // no reader minds
		default:
			v.Fault("crash takes it for memory", "phdr[%d] is a %v, expected PT_LOAD", i, p.Type)
			return
		}
	}
}

// place checks where the notes lie.
func (v *Verifier) place() {
	c := v.C
	notes := c.notesExtent()
	lowest, at := uint64(math.MaxUint64), -1
	for i, p := range c.Progs {
		if isMemory(p) && p.Off < lowest {
			lowest, at = p.Off, i
		}
	}
	switch {
	case at < 0:
		v.Fault("crash finds no memory", "no PT_LOAD has a place in the file")
	case notes.Off+notes.Size > lowest:
		v.Fault("crash loses all notes", "the notes (%v) reach beyond %#x, the p_offset of phdr[%d]", notes, lowest, at)
	case lowest > maxHeaderRoom:
		v.Fault("crash reads all before it into memory", "the lowest p_offset is %#x, expected at most %#x", lowest, maxHeaderRoom)
	}
	switch a := c.Progs[c.Note].Align; {
	case c.notes.Align == 8:
		v.Fault("crash and makedumpfile read them padded to 4, and lose VMCOREINFO", "the notes are padded to 8 bytes, expected 4")
	case a > 4:
		v.Fault("drgn, readelf and eu-readelf lose notes", "p_align of the PT_NOTE is %d, expected 0 to 4", a)
	}
}

// Shared checks that no byte of the file is memory at two addresses. Several
// PT_LOADs for the same memory, as QEMU's -p writes them, are no fault.
func (v *Verifier) Shared() {
	if n := v.C.Phys().Shared(); n > 0 {
		v.Fault("makedumpfile and crash read it at each of them", "%#x bytes of memory share bytes of the file with memory at other addresses", n)
	}
}

// Segments checks each PT_LOAD for itself.
func (v *Verifier) Segments() {
	for i, p := range v.C.Progs {
		switch {
		case p.Type != elf.PT_LOAD:
		case p.Filesz > p.Memsz:
			v.Fault("readers differ in how much memory that is", "phdr[%d]: p_filesz %#x is more than p_memsz %#x", i, p.Filesz, p.Memsz)
		case p.Paddr+p.Memsz < p.Paddr && p.Paddr+p.Memsz != 0:
			v.Fault("readers differ in which memory that is", "phdr[%d]: p_paddr %#x + p_memsz %#x overflows", i, p.Paddr, p.Memsz)
		}
	}
}

// notes checks the notes themselves.
func (v *Verifier) notes() {
	c, s := v.C, v.C.Notes()
	if s.Fill < s.Size {
		v.Fault(v.by("readelf calls them corrupt, crash warns, libkdumpfile loses the notes after them", "readelf calls them corrupt"),
			"%d bytes of zero fill at offset %#x within the notes", s.Size-s.Fill, c.NotesOff()+s.Fill)
	}
	if n := s.Size % s.Align; n != 0 && s.Fill == s.Size {
		v.Fault(v.by("readelf, eu-readelf and drgn lose it", "readelf and eu-readelf lose it"), "the padding of the last note lacks %d bytes at offset %#x", s.Align-n, c.NotesOff()+s.Size)
	}
	for _, g := range s.Gaps {
		v.Fault("crash, eu-readelf and drgn lose the notes after them", "%d zero bytes at offset %#x stand between notes", g.Size, c.NotesOff()+g.Off)
	}
	word := 8
	if c.Class == elf.ELFCLASS32 {
		word = 4
	}
	plan.Registers(&v.Findings, c.notes, c.NotesOff(), word, v.by("crash counts it as a CPU, gdb does not", "gdb does not know the thread"))
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
