package cli

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A host is a dump and what was found in it.
type host struct {
	vmcore.Core
	note       elfnote.Note // VMCSINFO, where the layout is from one
	asked      *vmcs.Layout // the layout looked for; nil where all were tried
	layoutFrom string       // where that comes from, for people
	candidates []foundNote  // VMCSINFO notes in its memory, where it has none of its own
	doubts     []string     // what speaks against the layout taken, for people
	found      *vmcs.Result
	machines   []*machine
	shortfall  vmcore.Shortfall // memory that should be in the dump, but is not
}

// A machine is a guest of a host, or of a guest.
type machine struct {
	*guest.Machine
	number int
	vcpus  []*vcpu
	memory *guest.Memory // nil until it has been opened
	failed error         // that it cannot be opened, whatever registers are known
	within *machine      // the guest that runs it; nil for a guest of the host
	nested []*machine    // its own guests
	// searched tells that its memory was looked through for those, found what
	// came of it; that is nil where nothing could be read.
	searched bool
	found    *vmcs.Result
}

// A vcpu is one of a machine's virtual CPUs.
type vcpu struct {
	*vmcs.Candidate
	number int
	regs   *guest.Registers // nil until they have been looked for
}

// machines numbers machines and vCPUs from 0, in the order in which they came
// to be: KVM gives out the lowest VPID that is free to each vCPU it creates.
func machines(found []*vmcs.Candidate) []*machine {
	var ms []*machine
	for _, gm := range guest.Machines(found) {
		m := &machine{Machine: gm}
		for _, c := range gm.CPUs {
			m.vcpus = append(m.vcpus, &vcpu{Candidate: c})
		}
		slices.SortStableFunc(m.vcpus, (*vcpu).compare)
		for i, v := range m.vcpus {
			v.number = i
		}
		ms = append(ms, m)
	}
	slices.SortStableFunc(ms, func(a, b *machine) int { return a.vcpus[0].compare(b.vcpus[0]) })
	for i, m := range ms {
		m.number = i
	}
	return ms
}

// compare orders vCPUs by VPID, and those without by the VMCS's address.
func (v *vcpu) compare(w *vcpu) int {
	a, _ := v.VPID()
	b, _ := w.VPID()
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(v.Addr, w.Addr))
}

// id is the machine's number for people; a guest's guest has those of both.
func (m *machine) id() string {
	if m.within != nil {
		return m.within.id() + "." + strconv.Itoa(m.number)
	}
	return strconv.Itoa(m.number)
}

func (v *vcpu) id() string { return strconv.Itoa(v.number) }

// machine finds the machine with that id; nil where there is none.
func (h *host) machine(id string) *machine {
	var m *machine
	ms := h.machines
	for n := range strings.SplitSeq(id, ".") {
		i := slices.IndexFunc(ms, func(m *machine) bool { return strconv.Itoa(m.number) == n })
		if i < 0 {
			return nil
		}
		m, ms = ms[i], ms[i].nested
	}
	return m
}

// each calls f for the machines and their guests, as the list has them.
func (h *host) each(f func(*machine)) {
	var walk func([]*machine)
	walk = func(ms []*machine) {
		for _, m := range ms {
			f(m)
			walk(m.nested)
		}
	}
	walk(h.machines)
}

// outer is the memory that the machine's VMCSs and EPT are in.
func (m *machine) outer(h *host) (guest.Reader, error) {
	if m.within == nil {
		return h, nil
	}
	mem, err := m.within.open(h)
	return mem, err
}

// open opens the machine's guest-physical memory. Where it has no EPT, that takes
// the registers.
func (m *machine) open(h *host) (*guest.Memory, error) {
	if m.memory != nil || m.failed != nil {
		return m.memory, m.failed
	}
	r, err := m.outer(h)
	if err != nil {
		return nil, err
	}
	mem, err := m.Memory(r)
	if errors.Is(err, guest.ErrNoEPT) {
		for _, v := range m.vcpus {
			if v.regs == nil {
				return nil, err
			}
			if s, ok := guest.ShadowOf(&v.VMCS, v.regs); ok && err != nil {
				mem, err = guest.OpenShadow(r, s)
			}
		}
	}
	if err != nil {
		m.failed = err
		return nil, err
	}
	m.memory = mem
	return mem, nil
}

// virtual is the machine's memory by the virtual addresses of a vCPU. Without
// EPT the tables of GUEST_CR3 are the hypervisor's, which lead straight to the
// host's memory, but have only what the guest has touched of late; the guest's
// own have it all, where they can be had.
func (m *machine) virtual(h *host, v *vcpu) (guest.Reader, error) {
	mem, err := m.open(h)
	if !m.Shadow {
		return guest.Virtual{Paging: guest.PagingOf(&v.VMCS), Mem: mem}, err
	}
	r, outerErr := m.outer(h)
	if outerErr != nil {
		return nil, outerErr
	}
	shadow := guest.Virtual{Paging: guest.PagingOf(&v.VMCS), Mem: r}
	if s, ok := guest.ShadowOf(&v.VMCS, v.regs); ok && err == nil {
		return inTurn{shadow, guest.Virtual{Paging: s.Guest, Mem: mem}}, nil
	}
	return shadow, nil
}

// inTurn reads from the second what the first does not have.
type inTurn [2]guest.Reader

func (t inTurn) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := t[0].ReadPhys(p, addr)
	if err == nil {
		return n, nil
	}
	k, err2 := t[1].ReadPhys(p[n:], addr+uint64(n))
	if err2 != nil && k == 0 {
		return n, err
	}
	return n + k, err2
}

// shadowed reports whether a machine runs on shadow page tables.
func (h *host) shadowed() bool {
	return slices.ContainsFunc(h.machines, func(m *machine) bool { return m.Shadow })
}

// findRegisters completes the registers of all vCPUs, in one pass over the
// host's memory. Of a guest's guest there are those in its VMCS alone: which
// hypervisor's structures the others are in, and whether they are of the same
// moment, nothing tells.
func (h *host) findRegisters(ctx context.Context, e *env) error {
	var own, inner []*vcpu
	h.each(func(m *machine) {
		if m.within == nil {
			own = append(own, m.vcpus...)
		} else {
			inner = append(inner, m.vcpus...)
		}
	})
	s := guest.RegSearch{
		Mem: h, Ranges: physRanges(h), DirectMaps: vmcore.DirectMaps(h.Core),
		Progress: portion(e.progress("looking for registers"), h.Core),
	}
	if err := complete(ctx, s, own); err != nil {
		return err
	}
	e.progressOver()
	return complete(ctx, guest.RegSearch{Mem: nowhere{}, Ranges: func(func(uint64, uint64) bool) {}}, inner)
}

func complete(ctx context.Context, s guest.RegSearch, vcpus []*vcpu) error {
	if len(vcpus) == 0 {
		return nil
	}
	vs := make([]*vmcs.VMCS, len(vcpus))
	for i, v := range vcpus {
		vs[i] = &v.VMCS
	}
	regs, err := s.Find(ctx, vs)
	if err != nil {
		return err
	}
	for i, r := range regs {
		vcpus[i].regs = r
	}
	return nil
}

// nowhere is memory that has nothing.
type nowhere struct{}

func (nowhere) ReadPhys([]byte, uint64) (int, error) { return 0, vmcore.ErrNoMemory }
