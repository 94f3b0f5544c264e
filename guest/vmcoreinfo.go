package guest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// InfoState is the outcome of the search for a guest's VMCOREINFO.
type InfoState uint8

const (
	// InfoNone: there is none in its memory. It is no Linux, or one without
	// kdump support, or the page is missing.
	InfoNone InfoState = iota
	// InfoFound: there is one, and it is the running kernel's as far as the
	// registers can tell.
	InfoFound
	// InfoForeign: there is one, but the running kernel is not where it says.
	InfoForeign
	// InfoAmbiguous: there are several, which nothing tells apart.
	InfoAmbiguous
)

const (
	// maxInfo bounds a VMCOREINFO descriptor: the kernel has one page for it
	// (VMCOREINFO_BYTES).
	maxInfo = 4096
	// maxInfoNote is the size in bytes of the largest such note.
	maxInfoNote = elfnote.HeaderSize + 12 + maxInfo
	// maxInfos bounds the notes that are looked at in memory full of them.
	maxInfos = 64
)

// infoHead is how the kernel's note begins, but for n_descsz at 4. It stands at
// the start of a page (crash_save_vmcoreinfo_init, since Linux 4.13, gets whole
// pages for it).
var infoHead = elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=")}.Encode(binary.LittleEndian)[:34]

// An infoFinder looks for the guest's VMCOREINFO while its memory passes.
type infoFinder struct {
	mem   physmem.Reader
	at    []uint64
	state InfoState
	found []InfoNote // that differ
}

// see looks at whole pages.
func (f *infoFinder) see(addr uint64, b []byte) {
	for ; len(b) >= pageSize; b = b[pageSize:] {
		if bytes.Equal(b[8:len(infoHead)], infoHead[8:]) && bytes.Equal(b[:4], infoHead[:4]) && len(f.at) < maxInfos {
			f.at = append(f.at, addr)
		}
		addr += pageSize
	}
}

// pick returns the one note that is the guest's.
func (f *infoFinder) pick(vcpus []*Registers) (elfnote.Note, bool) {
	var good []elfnote.Note
	f.state = InfoNone
	for _, addr := range f.at {
		n, ok := f.read(addr)
		if !ok || slices.ContainsFunc(f.found, func(i InfoNote) bool { return i.Note.Equal(n) }) {
			continue
		}
		runs := f.runs(n, vcpus)
		f.found = append(f.found, InfoNote{addr, n, runs})
		switch {
		case runs:
			good = append(good, n)
		case f.state == InfoNone:
			f.state = InfoForeign
		}
	}
	switch len(good) {
	case 0:
		return elfnote.Note{}, false
	case 1:
		f.state = InfoFound
		return good[0], true
	}
	f.state = InfoAmbiguous
	return elfnote.Note{}, false
}

// read reads the note at addr; false where it is not whole.
func (f *infoFinder) read(addr uint64) (elfnote.Note, bool) {
	b := make([]byte, maxInfoNote)
	got, _ := f.mem.ReadPhys(b, addr)
	b = b[:got]
	if len(b) < len(infoHead) {
		return elfnote.Note{}, false
	}
	size := int64(binary.LittleEndian.Uint32(b[4:]))
	desc := b[len(infoHead)-len("OSRELEASE="):]
	if size > int64(len(desc)) {
		return elfnote.Note{}, false
	}
	desc = desc[:size]
	text := bytes.TrimRight(desc, "\x00")
	for _, c := range text {
		if c != '\n' && (c < ' ' || c > '~') {
			return elfnote.Note{}, false
		}
	}
	return elfnote.Note{Name: elfnote.VMCoreInfo, Desc: desc}, bytes.HasSuffix(text, []byte("\n"))
}

// runs reports whether the note's kernel may be the one that runs. The note's
// symbols must lead, by a vCPU's page tables, to the release that uname(2)
// returns. A vCPU in user mode may have page tables without the kernel
// (page-table isolation): then the kernel's entry for SYSENTER must lie within
// the text that the note describes.
func (f *infoFinder) runs(n elfnote.Note, vcpus []*Registers) bool {
	uts, ok1 := infoValue(n, "SYMBOL(init_uts_ns)", 16)
	name, ok2 := infoValue(n, "OFFSET(uts_namespace.name)", 10)
	stext, ok3 := infoValue(n, "SYMBOL(_stext)", 16)
	for _, r := range vcpus {
		got := make([]byte, utsFieldSize)
		v := virtualMemory{Paging: r.paging(), Mem: f.mem}
		// Two boots of one kernel differ in where its text is, in virtual or in
		// physical memory (KERNELOFFSET, phys_base).
		base, err := strconv.ParseInt(InfoLine(string(n.Desc), "NUMBER(phys_base)"), 10, 64)
		if e, err2 := v.Paging.translate(f.mem, stext); ok3 && err == nil && err2 == nil && r.CR3.Known() {
			if e.Phys+stext-e.Addr != stext-startKernelMap+uint64(base) {
				return false
			}
		}
		if read, _ := v.ReadPhys(got, uts+name+utsReleaseOff); ok1 && ok2 && r.CR3.Known() && read == len(got) {
			got, _, _ := strings.Cut(string(got), "\x00")
			return got == release(n)
		}
		if eip := r.SysenterEIP; ok3 && eip.Known() && eip.Value>>63 == 1 && eip.Value-stext >= maxText {
			return false
		}
	}
	return true
}

const (
	// struct new_utsname has fields of 65 bytes, of which release is the third.
	utsFieldSize  = 65
	utsReleaseOff = 2 * utsFieldSize
	// maxText bounds a kernel's text in bytes.
	maxText = 128 << 20
)

// paging is what the vCPU's virtual addresses are translated by.
func (r *Registers) paging() paging {
	p := paging{CR0: r.CR0.Value, CR3: r.CR3.Value, CR4: r.CR4.Value}
	if r.LongMode {
		p.EFER = x86.EFERLMA
	}
	return p
}

// tellPaging reports whether the registers that paging needs are known: without
// them virtual addresses would be taken for physical ones.
func (r *Registers) tellPaging() bool {
	return r.CR0.Known() && (r.CR0.Value&x86.CR0PG == 0 || r.CR3.Known() && r.CR4.Known())
}

// startKernelMap is where x86-64 Linux maps its image: phys_base is the
// physical address that it maps there.
const startKernelMap = 0xffffffff80000000

// pageTables returns the kernel's topmost page table as an alias: drgn reads it
// by its virtual address, since /proc/vmcore has a PT_LOAD for that, and
// everything else through it.
func pageTables(n elfnote.Note) []vmcore.Alias {
	table, at, ok := imageSymbol(string(n.Desc), "swapper_pg_dir")
	if !ok {
		return nil
	}
	return []vmcore.Alias{{Vaddr: table, Range: physmem.Range{Addr: at, Size: pageSize}}}
}

// imageSymbol returns the virtual and the physical address of a symbol in the
// kernel's image, by VMCOREINFO.
func imageSymbol(vmcoreinfo, name string) (addr, phys uint64, ok bool) {
	addr, err := strconv.ParseUint(InfoLine(vmcoreinfo, "SYMBOL("+name+")"), 16, 64)
	base, err2 := strconv.ParseInt(InfoLine(vmcoreinfo, "NUMBER(phys_base)"), 10, 64)
	return addr, addr - startKernelMap + uint64(base), err == nil && err2 == nil && addr >= startKernelMap
}

// release is OSRELEASE of the note.
func release(n elfnote.Note) string { return InfoLine(string(n.Desc), "OSRELEASE") }

// InfoLine returns the value of a line KEY=VALUE in the text of VMCOREINFO, or
// "".
func InfoLine(vmcoreinfo, key string) string {
	for line := range strings.Lines(vmcoreinfo) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSuffix(v, "\n")
		}
	}
	return ""
}

func infoValue(n elfnote.Note, key string, base int) (uint64, bool) {
	v, err := strconv.ParseUint(InfoLine(string(n.Desc), key), base, 64)
	return v, err == nil
}
