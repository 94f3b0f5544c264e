package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A Host is the memory of a KVM host, and the virtual machines in it.
type Host struct {
	Core vmcore.Core
	// Shortfall is the memory that the dump should have, but lacks.
	Shortfall vmcore.Shortfall
	// Layout is the layout by which VMCSs are searched, LayoutFrom its origin.
	// Without one, all built-in layouts and those of Notes are tried.
	Layout     *vmcs.Layout
	LayoutFrom LayoutSource
	// NoteError is why the dump's own VMCSINFO cannot be used, if that is so.
	NoteError error
	// Notes are VMCSINFO notes in the host's memory, if the dump has none of
	// its own, the most trusted first. MoreNotes is how many were left out.
	Notes     []FoundNote
	MoreNotes int
	// Files, if not nil, returns the layouts that the caller has for a
	// processor: the one that fits, or all that may fit if p is zero. They are
	// used if there is no note.
	Files func(p vmcs.Processor) []*vmcs.Layout
	// Found is the result of the search for VMCSs.
	Found *vmcs.Result
	// Machines are the host's own; see [Host.All] for theirs. A caller may
	// leave out some of them.
	Machines []*Machine
	// NoKVM is why the machines were found by their VMCSs and not by KVM's own
	// structures: the kernel has no BTF or no kallsyms, the dump is torn, KVM
	// is not loaded. It is nil if they were found by KVM's.
	NoKVM error
	// KVMError is why KVM's structures could not be read completely, if so.
	KVMError error
	// SavedError is why the list of VMCSs that the kernel saved when it crashed
	// could not be read completely, if so.
	SavedError error
	// Live reports whether the core is the memory of the running host: VMCSs
	// may be in the processors, so they are not read.
	Live bool
	// Disagreements are where KVM's structures and the VMCSs in memory differ,
	// with MachineSearch.Explain.
	Disagreements []Disagreement

	note elfnote.Note // VMCSINFO, if Layout is from one
}

// A Disagreement is something that KVM's structures and the search for VMCSs in
// memory tell differently.
type Disagreement struct {
	Machine *Machine // as KVM has it; nil if KVM does not have it
	VCPU    *VCPU    // nil if it is about the machine
	What    string   // "machine", "vCPUs", "RIP", "slot"...
	KVM     string   // "" for nothing
	VMCS    string   // likewise
}

// OpenHost returns the host that a dump is of. It reads the dump's VMCSINFO
// note, and nothing of the memory.
func OpenHost(c vmcore.Core) *Host {
	h := &Host{Core: c, Shortfall: vmcore.ShortfallOf(c), Live: isLive(c.Notes())}
	n, ok := c.Notes().Get(elfnote.VMCSInfo, elfnote.MaxBlob)
	if !ok {
		return h
	}
	l, err := vmcs.ParseNote(n.Desc)
	if err != nil {
		h.NoteError = err
		return h
	}
	h.Layout, h.LayoutFrom, h.note = l, LayoutOfDump, n
	return h
}

// isLive reports whether the notes are those of /proc/kcore (fs/proc/kcore.c),
// which has an NT_PRPSINFO whose pr_fname is vmlinux. No crashed kernel writes
// one.
func isLive(s *elfnote.Segment) bool {
	const nameOff, name = 40, "vmlinux\x00" // struct elf_prpsinfo of x86-64
	for i, n := range s.Notes {
		if n.Name == nameCore && n.Type == uint32(elf.NT_PRPSINFO) && n.DescSize >= nameOff+int64(len(name)) {
			if n, err := s.Note(i, maxPRPSInfo); err == nil {
				return bytes.HasPrefix(n.Desc[nameOff:], []byte(name))
			}
		}
	}
	return false
}

// maxPRPSInfo is more than struct elf_prpsinfo has in bytes.
const maxPRPSInfo = 4096

// A MachineSearch says how to look for machines. The zero value is right for
// most hosts.
type MachineSearch struct {
	// Nested makes the search read all memory of every machine for VMCSs.
	// Otherwise KVM's structures tell the guests that a machine had loaded; if
	// the machines were found by their VMCSs, only the memory of those that have
	// VMX switched on is read.
	Nested bool
	// Explain keeps the checks of each VMCS; see [vmcs.Search].
	Explain bool
	// Progress, if not nil, is told how many bytes of how many have been looked
	// at, in the memory of a machine, or of the host if m is nil.
	Progress func(m *Machine, done, total uint64)
}

// A NoVMCSError means that no page of a host's memory is a VMCS, and that no
// VMCSINFO says what one looks like.
type NoVMCSError struct{ Found *vmcs.Result }

// Error says so.
func (e *NoVMCSError) Error() string { return "no VMCS found, and no VMCSINFO" }

// FindMachines finds the virtual machines, and those that run in them. It asks
// KVM's own structures, which needs no search through memory. If these do not
// tell (see NoKVM), it searches for VMCSs: without a layout it tries those of
// VMCSINFO notes in the host's memory and the built-in ones. The error is a
// [*NoVMCSError], or about memory that cannot be read.
func (h *Host) FindMachines(ctx context.Context, s MachineSearch) error {
	var byVMCS *Host // as if there were no KVM
	if s.Explain {
		c := *h
		byVMCS = &c
	}
	h.NoKVM = h.askKVM(ctx, s)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case h.NoKVM != nil:
		return h.search(ctx, s)
	case s.Explain:
		return h.compare(ctx, byVMCS, s)
	}
	return nil
}

// search finds the machines by their VMCSs.
func (h *Host) search(ctx context.Context, s MachineSearch) error {
	h.Machines = nil
	if h.Found = h.saved(); h.Found == nil {
		if err := h.findVMCSs(ctx, s); err != nil {
			return err
		}
	}
	h.Machines = Machines(h.Core, h.Found.VMCSs)
	for _, m := range h.Machines {
		if m.EPTP == 0 || !s.Nested && !m.Hypervisor() {
			continue
		}
		mem, err := m.Memory()
		if err != nil {
			continue
		}
		if err := h.findNested(ctx, m, mem.once(h.Core), s); err != nil {
			return err
		}
	}
	return nil
}

// findVMCSs searches memory for VMCSs.
func (h *Host) findVMCSs(ctx context.Context, s MachineSearch) error {
	v := vmcs.Search{Note: h.Layout, Files: h.files(vmcs.Processor{}), Explain: s.Explain, Partial: h.Shortfall.Partial()}
	var err error
	if h.Layout == nil && h.NoteError == nil {
		var found *Survey
		if found, err = FindNotes(ctx, h.Core, elfnote.VMCSInfo, 0, physmem.ScanOptions{Progress: s.progress(nil, h)}); err != nil {
			return err
		}
		h.Notes, h.MoreNotes = found.Notes, found.More
		h.Found, err = found.FindVMCSs(ctx, v)
	} else {
		v.VMCOREINFO, v.Progress = VMCoreInfo(h.Core), s.progress(nil, h)
		h.Found, err = vmcs.Find(ctx, h.Core, v)
	}
	if err != nil {
		return err
	}
	if h.Found.Layout == nil && h.Layout == nil && (len(h.Notes) == 0 || len(h.Found.Strangers) > 0) {
		return &NoVMCSError{h.Found}
	}
	h.takeNote()
	return nil
}

// findNested looks for machines in a machine's memory. It fails only if
// ctx ends: Found tells what could not be read.
func (h *Host) findNested(ctx context.Context, m *Machine, mem physmem.Memory, s MachineSearch) error {
	note := h.Found.Layout
	if note != nil && note.Form == vmcs.FormSaved {
		note = nil // no processor's
	}
	var err error
	m.Found, err = vmcs.Find(ctx, mem, vmcs.Search{
		Note: note, Nested: true, Explain: s.Explain, Progress: s.progress(m, h),
	})
	if err != nil {
		return ctx.Err()
	}
	m.Nested = Machines(mem, m.Found.VMCSs)
	for _, n := range m.Nested {
		n.Within = m
	}
	return nil
}

// FindRegisters finds the registers of all vCPUs whose registers KVM's
// structures did not tell. It reads the host's memory once if a VMCS does not
// tell where KVM keeps them. A guest of a guest gets only the registers in its
// VMCS: nothing tells which hypervisor's structures have the others, and
// whether those are of the same moment. progress, if not nil, is told how many
// bytes of that pass, of how many, are done.
func (h *Host) FindRegisters(ctx context.Context, progress func(done, total uint64)) error {
	var own, inner []*VCPU
	for m := range h.All() {
		for _, v := range m.VCPUs {
			switch {
			case v.Regs != nil: // KVM told them
			case m.Within == nil:
				own = append(own, v)
			default:
				inner = append(inner, v)
			}
		}
	}
	err := complete(ctx, infer.Search{
		Mem: h.Core, DirectMaps: vmcore.DirectMaps(h.Core), Progress: portion(progress, h.Core),
	}, own)
	if err != nil {
		return err
	}
	return complete(ctx, infer.Search{Mem: nowhere{}}, inner)
}

// complete sets the registers of vCPUs to what the search finds.
func complete(ctx context.Context, s infer.Search, vcpus []*VCPU) error {
	if len(vcpus) == 0 {
		return nil
	}
	vs := make([]*vmcs.VMCS, len(vcpus))
	for i, v := range vcpus {
		vs[i] = &v.VMCS
	}
	regs, err := findRegisters(ctx, s, vs)
	if err != nil {
		return err
	}
	for i, r := range regs {
		vcpus[i].Regs = r
	}
	return nil
}

// nowhere is empty memory.
type nowhere struct{}

func (nowhere) ReadPhys([]byte, uint64) (int, error) { return 0, vmcore.ErrNoMemory }
func (nowhere) Ranges() iter.Seq[physmem.Range]      { return func(func(physmem.Range) bool) {} }

// All returns the machines, each followed by those that run in it.
func (h *Host) All() iter.Seq[*Machine] {
	return func(yield func(*Machine) bool) { all(h.Machines, yield) }
}

func all(ms []*Machine, yield func(*Machine) bool) bool {
	for _, m := range ms {
		if !yield(m) || !all(m.Nested, yield) {
			return false
		}
	}
	return true
}

// Machine returns the machine that has an ID; nil if there is none.
func (h *Host) Machine(id string) *Machine {
	var m *Machine
	ms := h.Machines
	for n := range strings.SplitSeq(id, ".") {
		i := slices.IndexFunc(ms, func(m *Machine) bool { return strconv.Itoa(m.Number) == n })
		if i < 0 {
			return nil
		}
		m, ms = ms[i], ms[i].Nested
	}
	return m
}

// progress returns a function that reports the bytes done to s.Progress.
func (s MachineSearch) progress(m *Machine, h *Host) func(uint64) {
	if s.Progress == nil {
		return nil
	}
	return portion(func(done, total uint64) { s.Progress(m, done, total) }, h.Core)
}

// portion returns a function that reports to progress the bytes done, and all
// bytes of the core's memory.
func portion(progress func(done, total uint64), c vmcore.Core) func(uint64) {
	if progress == nil {
		return nil
	}
	var total uint64
	for r := range c.Ranges() {
		total += r.Size
	}
	return func(done uint64) { progress(done, total) }
}

// MaxGuest returns the most memory that a guest of this host can credibly have,
// in bytes: 64 times the host's highest physical address, but at least 1 TiB.
// Hosts promise more memory than they have, but not that much.
func (h *Host) MaxGuest() uint64 {
	end := uint64(0)
	for r := range h.Core.Ranges() {
		end = max(end, r.End())
	}
	const times = 64
	return max(1<<40, times*min(end, math.MaxUint64/times))
}
