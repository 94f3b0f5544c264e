package source

import (
	"context"
	"debug/elf"
	"strconv"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/physmem"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// searchAtDesk searches without being asked to, but not where a dump has just
// been saved and a machine waits to boot: a search reads all of it.
func (f *Finder) searchAtDesk(ctx context.Context) (Source, error) {
	if !f.Whole || f.Capture() {
		return Source{}, ErrNone
	}
	return f.searched(ctx)
}

// searched looks through the dump's memory.
func (f *Finder) searched(ctx context.Context) (Source, error) {
	if !f.Whole {
		return Source{}, ErrStream
	}
	f.tell(Shortfall(vmcore.ShortfallOf(f.Core)))
	found, err := f.survey(ctx)
	if err != nil {
		return Source{}, err
	}
	if len(found.Notes) == 0 {
		return Source{}, NotInMemoryError{f.Name}
	}
	c, err := f.pick(ctx, found)
	if err != nil {
		return Source{}, err
	}
	return Source{Kind: Search, Pair: pairOf(c), Read: InDump, Note: c.Note}, nil
}

// survey looks through the dump's memory for intact notes.
func (f *Finder) survey(ctx context.Context) (*guest.Survey, error) {
	var u Unsearched
	opt := physmem.ScanOptions{Lost: func(_ uint64, err error) {
		if u.Pages++; u.First == nil {
			u.First = err
		}
	}}
	if f.Progress != nil {
		total := physmem.Size(f.Core)
		opt.Progress = func(done uint64) { f.Progress(done, total) }
	}
	found, err := guest.FindNotes(ctx, f.Core, f.Name, f.Type, opt)
	if err != nil {
		return nil, err
	}
	f.tell(Searched{})
	if u.Pages > 0 {
		f.tell(u)
	}
	if found.More > 0 {
		f.tell(More{found.More, f.Name})
	}
	return found, nil
}

// pick returns the candidate to take: the only one, the one that explains the
// dump's VMCSs, or the one of the dump's own kernel.
func (f *Finder) pick(ctx context.Context, found *guest.Survey) (guest.FoundNote, error) {
	cs := found.Notes
	switch {
	case len(cs) == 1 && (f.Name != elfnote.VMCSInfo || cs[0].Owner == vmcs.OwnerKernel):
		return cs[0], nil
	case f.Name == elfnote.VMCSInfo:
		return f.pickLayout(ctx, found)
	}
	own := f.kernelBase()
	var good []guest.FoundNote
	for _, c := range cs {
		if own != "" && f.Name == elfnote.VMCoreInfo && guest.InfoLine(string(c.Note.Desc), "NUMBER(phys_base)") == own {
			good = append(good, c)
		}
	}
	if len(good) == 1 {
		f.tell(Candidates{f.Name, cs, nil})
		return good[0], nil
	}
	return guest.FoundNote{}, f.several(cs, nil)
}

// pickLayout chooses among VMCSINFO notes by what the dump's VMCSs say.
func (f *Finder) pickLayout(ctx context.Context, found *guest.Survey) (guest.FoundNote, error) {
	cs := found.Notes
	res, err := found.FindVMCSs(ctx, vmcs.Search{Partial: vmcore.ShortfallOf(f.Core).Partial()})
	if err != nil {
		return guest.FoundNote{}, err
	}
	if res.Layout == nil { // no guest ran
		if len(cs) == 1 || cs[0].Owner == vmcs.OwnerKernel && cs[1].Owner != vmcs.OwnerKernel {
			return cs[0], nil
		}
		return guest.FoundNote{}, f.several(cs, res)
	}
	c, ok := guest.NoteOf(cs, res.Trials[0].From)
	switch {
	case !ok:
		f.tell(Candidates{f.Name, cs, res})
		return guest.FoundNote{}, RefutedError{len(cs), res.Layout.Name}
	case len(res.Ambiguous()) > 0:
		return guest.FoundNote{}, f.several(cs, res)
	case len(cs) > 1:
		f.tell(Candidates{f.Name, cs, res})
	}
	for _, d := range res.Disputes() {
		f.tell(Disputed{d, cs})
	}
	return c, nil
}

// several is the error for notes that nothing tells apart.
func (f *Finder) several(cs []guest.FoundNote, res *vmcs.Result) error {
	f.tell(Candidates{f.Name, cs, res})
	return SeveralError{len(cs), f.Name}
}

// pairOf is the pair that leads to a note in memory.
func pairOf(c guest.FoundNote) sysfs.Pair {
	return sysfs.Pair{Addr: c.Addr, Size: uint64(c.Note.Size())}
}

// kernelBase is phys_base of the kernel that the core is of, in VMCOREINFO's
// words: by its own VMCOREINFO, or by the PT_LOAD that has the kernel's image.
func (f *Finder) kernelBase() string {
	if s := guest.InfoLine(guest.VMCoreInfo(f.Core), "NUMBER(phys_base)"); s != "" {
		return s
	}
	const image, end = 0xffffffff80000000, 0xffffffffc0000000
	for _, p := range vmcore.Progs(f.Core) {
		if p.Type == elf.PT_LOAD && p.Vaddr >= image && p.Vaddr < end {
			return strconv.FormatInt(int64(p.Paddr-(p.Vaddr-image)), 10)
		}
	}
	return ""
}
