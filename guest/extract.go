package guest

import (
	"context"
	"slices"
	"sort"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A Source is a guest's physical memory: [Physical] reads it from the host's
// dump, package qemucore from a core of the process that ran the guest.
type Source interface {
	// Memory is the memory that may be there, in whole pages.
	physmem.Memory
	// Slots are the memory slots; empty where they are not known.
	Slots() []Slot
}

// An Extraction is a guest to be written as a core of its own.
type Extraction struct {
	Mem Source
	// VCPUs are the registers of each vCPU. They are written by rising APIC ID
	// if all IDs are known and differ, otherwise in their order here.
	VCPUs []*Registers
	// Machine, if not nil, is named in the core's note VMCSNOTE.
	Machine *Machine
	// Overwrite lets the core replace an existing file.
	Overwrite bool
	// Progress, if not nil, is told how many bytes of memory are done, and how
	// many there are.
	Progress func(done, total int64)
}

// A Summary says what a written core has, and what it lacks.
type Summary struct {
	// Bytes of the guest's memory are in the core.
	Bytes uint64
	// Untouched is how many bytes of the memory slots are in no page table: the
	// guest never touched them, or only the host could have fetched them. The
	// core has holes there.
	Untouched uint64
	// Lost is the memory that could not be read, by reason, most pages first.
	Lost []Loss
	// Zeros is how many untouched or lost pages of 4 KiB the core has as zeros:
	// those in the smallest holes, which would cost thousands of PT_LOADs.
	Zeros uint64
	// VCPUs are those in the notes, in their order.
	VCPUs []*Registers
	// Unknown are the names of the registers that are not known, for each of
	// VCPUs: in the notes they are zero.
	Unknown [][]string
	// Info says whether VMCOREINFO was found, Release is its OSRELEASE where
	// it was found.
	Info    InfoState
	Release string
	// Infos are the different notes found, by rising address.
	Infos []InfoNote
}

// An InfoNote is a VMCOREINFO note in the guest's memory.
type InfoNote struct {
	Addr uint64 // guest-physical
	Note elfnote.Note
	Runs bool // the running kernel may be the one it describes
}

// A Loss is memory that could not be read for one reason.
type Loss struct {
	Reason error  // a sentinel of this package or of vmcore, or the first error of no known kind
	Pages  uint64 // of 4 KiB
	First  uint64 // the lowest address
}

// reasons are the kinds that losses are told apart by.
var reasons = []error{ErrSwapped, ErrNotPresent, ErrMMIO, ErrNotMapped,
	vmcore.ErrExcluded, vmcore.ErrOtherPiece, vmcore.ErrTruncated, vmcore.ErrNoMemory, vmcore.ErrChanged}

// Write writes the guest to the file out, with a [vmcore.Writer]: PT_LOADs by
// guest-physical address with holes where there is no memory, then a note
// NT_PRSTATUS and one of QEMU's for each vCPU, a note VMCSNOTE with the
// machine's name, and the guest's own VMCOREINFO. That is the one that the
// guest's kernel leads to or, if that cannot be opened, one met in the memory.
// Write fails with [vmcore.ErrNoMemory] if none of the memory can be read; then
// the summary says why. After any other error the summary is nil.
func (x Extraction) Write(ctx context.Context, out string) (*Summary, error) {
	s := &Summary{VCPUs: inOrder(x.VCPUs)}
	for _, r := range s.VCPUs {
		s.Unknown = append(s.Unknown, r.unknown())
	}
	slots := x.Mem.Slots()
	for _, slot := range slots {
		s.Untouched += slot.Size
	}
	notes, room := x.notes(s.VCPUs)
	finder := infoFinder{mem: x.Mem}
	w, err := vmcore.Create(out, room, x.Overwrite)
	if err != nil {
		return nil, err
	}
	defer w.Discard()
	opt := physmem.ScanOptions{
		Lost: func(addr uint64, err error) {
			s.Untouched -= overlap(slots, addr, pageSize)
			s.lost(addr, err)
		},
		Progress: func(done uint64) {
			if x.Progress != nil {
				x.Progress(int64(done), int64(w.Size()))
			}
		},
	}
	err = w.Copy(ctx, x.Mem, opt, func(addr uint64, b []byte) {
		s.Bytes += uint64(len(b))
		s.Untouched -= overlap(slots, addr, uint64(len(b)))
		finder.see(addr, b)
	})
	if err != nil {
		return nil, err
	}
	var aliases []vmcore.Alias
	if info, ok := s.takeInfo(&finder, x.Mem); ok {
		s.Release = release(info)
		aliases = pageTables(info)
		notes = append(notes, info)
	}
	s.Zeros, err = w.Finish(notes, aliases)
	if err != nil && !errors.Is(err, vmcore.ErrNoMemory) {
		return nil, err
	}
	sort.SliceStable(s.Lost, func(i, j int) bool { return s.Lost[i].Pages > s.Lost[j].Pages })
	return s, err
}

// notes returns the notes that are known before the memory is read, and how
// much room all notes need.
func (x Extraction) notes(vcpus []*Registers) (notes []elfnote.Note, room int64) {
	notes = cpuNotes(vcpus)
	if x.Machine != nil {
		if n, ok := machineNote(x.Machine); ok {
			notes = append(notes, n)
		}
	}
	room = maxInfoNote
	for _, note := range notes {
		room += note.Size()
	}
	return notes, room
}

// takeInfo returns the guest's VMCOREINFO, if one is found that is its
// kernel's.
func (s *Summary) takeInfo(finder *infoFinder, mem Source) (info elfnote.Note, ok bool) {
	info, ok = finder.pick(s.VCPUs)
	s.Infos, s.Info = finder.found, finder.state
	if k, err := findLinux(mem, s.VCPUs); err == nil && k.VMCoreInfo() != "" {
		info, ok = elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(k.VMCoreInfo())}, true
		s.Info = InfoFound
	}
	return info, ok
}

// lost counts a page that could not be read.
func (s *Summary) lost(addr uint64, err error) {
	reason := err
	for _, r := range reasons {
		if errors.Is(err, r) {
			reason = r
			break
		}
	}
	i := slices.IndexFunc(s.Lost, func(l Loss) bool {
		return l.Reason == reason || !slices.Contains(reasons, reason) && !slices.Contains(reasons, l.Reason)
	})
	if i < 0 {
		i = len(s.Lost)
		s.Lost = append(s.Lost, Loss{Reason: reason, First: addr})
	}
	s.Lost[i].Pages++
	s.Lost[i].First = min(s.Lost[i].First, addr)
}

// overlap returns how many bytes of the slots lie in the range.
func overlap(slots []Slot, addr, size uint64) (n uint64) {
	for _, s := range slots {
		low, high := max(s.GPA, addr), min(s.GPA+s.Size, addr+size)
		if low < high {
			n += high - low
		}
	}
	return n
}

// inOrder sorts vCPUs by their numbers, if they have different ones.
func inOrder(vcpus []*Registers) []*Registers {
	sorted := slices.Clone(vcpus)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].APICID.Value < sorted[j].APICID.Value })
	for i, r := range sorted {
		if !r.APICID.Known() || i > 0 && r.APICID.Value == sorted[i-1].APICID.Value {
			return vcpus
		}
	}
	return sorted
}

// unknown names the registers that are not known.
func (r *Registers) unknown() (names []string) {
	note := func(name string, reg Register) {
		if !reg.Known() {
			names = append(names, name)
		}
	}
	for i, name := range GPRNames {
		note(name, r.GPR[i])
	}
	note("rip", r.RIP)
	note("rflags", r.RFLAGS)
	note("cr0", r.CR0)
	note("cr2", r.CR2)
	note("cr3", r.CR3)
	note("cr4", r.CR4)
	note("kernel_gs_base", r.KernelGSBase)
	for i, s := range r.Seg {
		note(SegNames[i], s.Selector)
		note(SegNames[i]+".base", s.Base)
		note(SegNames[i]+".rights", s.Rights)
	}
	note("gdtr", r.GDTR.Base)
	note("idtr", r.IDTR.Base)
	return names
}
