package kdump

import (
	"context"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// Verify implements vmcore.Core. What readers need of a kdump-compressed dump
// was read in the sources of crash 8.0, makedumpfile 1.7 and libkdumpfile 0.5.
func (c *Dump) Verify() []plan.Finding {
	v := c.verifyHead()
	v.descriptors()
	return v.Found
}

// VerifyHead is Verify without the page descriptors.
func (c *Dump) VerifyHead() []plan.Finding { return c.verifyHead().Found }

func (c *Dump) verifyHead() *verifier {
	v := &verifier{c: c}
	v.header()
	v.place()
	v.notes()
	return v
}

// VerifyPages inflates every page, and finds what Verify has not. It stops
// early for ctx.
func (c *Dump) VerifyPages(ctx context.Context) []plan.Finding {
	v := &verifier{c: c}
	physmem.Scan(ctx, c, physmem.ScanOptions{Lost: v.lost}, func(uint64, []byte) error { return nil })
	return v.Found
}

type verifier struct {
	c *Dump
	plan.Findings
}

func (v *verifier) header() {
	c := v.c
	if c.Incomplete() {
		v.Fault("crash warns; memory is missing", "status says that makedumpfile could not finish the dump (DUMP_DH_COMPRESSED_INCOMPLETE)")
	}
	if c.Status&StatusExcludedVmemmap != 0 {
		v.Remark("crash cannot use struct page there", "status says that makedumpfile -e left parts of the page array out")
	}
	if c.Split {
		v.Remark("crash wants all files at once, makedumpfile --reassemble makes one of them", "a piece of a split dump, PFNs %v", c.PFNs())
	}
	if c.Version < NotesVersion {
		v.Remark("registers are missing", "header_version is %d: dumps have notes since %d", c.Version, NotesVersion)
	}
	if size, err := plan.KernelPage(c.notes); err == nil && size > 0 && size != c.BlockSize {
		v.Fault("makedumpfile reads other memory than it asks for, and fails", "block_size at offset %#x is %#x, expected %#x, the kernel's page size (PAGESIZE in VMCOREINFO): QEMU writes 64 KiB for every arm64 machine", c.ABI.Status+4, c.BlockSize, size)
	}
	if c.DescOff() > c.Size {
		v.Fault("all refuse it", "the file ends at %#x, its bitmaps at %#x: it is truncated", c.Size, c.DescOff())
	}
}

// place checks where notes, VMCOREINFO and eraseinfo lie.
func (v *verifier) place() {
	c := v.c
	if c.Version >= NotesVersion {
		if err := c.changeable(); err != nil {
			v.Fault("readers see one as the other", "%v", err)
		}
	}
	for _, e := range []struct {
		name string
		plan.Extent
	}{{"VMCOREINFO", c.Info}, {"eraseinfo", c.Erase}} {
		if e.Size > 0 && !e.Within(c.Size) {
			v.Fault("crash and libkdumpfile refuse it", "%s (%v) reaches beyond the file's %#x bytes", e.name, e.Extent, c.Size)
		}
	}
	if c.Version >= NotesVersion && c.apart().Size > 0 {
		v.Fault("makedumpfile writes a damaged dump from it", "offset_vmcoreinfo leads to %v, expected a place within the notes (%v)", c.Info, c.Note)
	}
	if i, ok := c.notes.Find(elfnote.VMCoreInfo, 0); ok && c.apart().Size == 0 {
		e := c.notes.Notes[i]
		if want := (plan.Extent{Off: c.Note.Off + uint64(e.DescOff), Size: uint64(e.DescSize)}); c.Info != want {
			v.Fault("makedumpfile and crash read other bytes for VMCOREINFO than libkdumpfile", "offset_vmcoreinfo leads to %v, expected %v as the note has it", c.Info, want)
		}
	}
	if c.ABI.packed && c.Note.Off >= uint64(c.BitmapOff()) {
		v.Fault("libkdumpfile takes the sub header for that of another ABI", "the notes of a 32-bit x86 dump lie at %#x, expected a place before %#x", c.Note.Off, c.BitmapOff())
	}
}

// notes checks the notes themselves.
func (v *verifier) notes() {
	c, s := v.c, v.c.notes
	if s.Fill < s.Size {
		v.Fault("crash warns, libkdumpfile loses the notes after it", "%d bytes of zero fill at offset %#x within the notes", s.Size-s.Fill, c.NotesOff()+s.Fill)
	}
	plan.Registers(&v.Findings, s, c.NotesOff(), c.ABI.word, "crash counts it as a CPU")
	plan.KernelNotes(&v.Findings, s, c.NotesOff(), "crash takes type 1 for a CPU's registers, 0x700 for a device dump")
}

// descriptors checks that every page's data lies within the file.
func (v *verifier) descriptors() {
	c := v.c
	x := c.Index()
	if x.err != nil {
		v.Fault("all refuse it", "the bitmap cannot be read: %v", x.err)
	}
	if held, all := c.held(x), x.Pages(); held < all {
		v.Fault("they fail to read these pages", "the file ends at %#x, within the page descriptors: %d of %d are there", c.Size, held, all)
	}
	if end := uint64(c.DescOff()) + x.Pages()*plan.DescSize; x.Data < end {
		v.Remark("they show descriptors as the contents of pages whose data lies there", "page data begins at %#x, the page descriptors end at %#x: makedumpfile found more pages to write than it had counted, as on a live system", x.Data, end)
	}
	r := c.pages.get(c)
	defer c.pages.put(r)
	for n := range c.held(x) {
		d, off, err := r.descriptor(n)
		if err == nil {
			err = c.checkDesc(d, off)
		}
		if err != nil {
			v.Fault("they fail to read this page", "page descriptor %d: %v", n, err)
		}
	}
}

// lost reports a page that cannot be read, unless Verify has reported its
// descriptor.
func (v *verifier) lost(addr uint64, err error) {
	c := v.c
	if addr%uint64(c.BlockSize) != 0 { // a page may be larger than Scan's
		return
	}
	r := c.pages.get(c)
	defer c.pages.put(r)
	n, numErr := r.number(addr / uint64(c.BlockSize))
	d, off, descErr := r.descriptor(n)
	if numErr == nil && descErr == nil && c.checkDesc(d, off) == nil {
		v.Fault("they fail to read this page", "%v", err)
	}
}
