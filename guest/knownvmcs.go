package guest

import (
	"context"
	"encoding/binary"
	"slices"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/guest/internal/kvm"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// readVMCSs reads the VMCSs that KVM has, and no other memory, unless the
// kernel saved them when it crashed. The layout is the first that exists of the
// host's, that of the module vmcsinfo's note, the caller's file for this
// processor, a built-in one that explains the pages, and the one learnt from
// KVM's copies of the fields.
func (a *asked) readVMCSs(ctx context.Context, s MachineSearch) error {
	a.Found = &vmcs.Result{}
	addrs, owners := a.addrsOfVMCSs()
	if a.Live || len(addrs) == 0 {
		return nil
	}
	if a.within == nil {
		if found := a.saved(); found != nil {
			a.takeSaved(found, owners)
			return nil
		}
	}
	if a.Layout == nil && a.NoteError == nil {
		a.moduleNote()
	}
	var files []*vmcs.Layout
	var learnt *vmcs.Layout
	if a.Layout == nil && a.NoteError == nil && len(a.Notes) == 0 {
		p, _ := processorOf(a.k) // otherwise nothing is known of it
		if files = a.files(p); len(files) == 0 {
			learnt = a.learn()
		}
	}
	found, err := vmcs.Find(ctx, physmem.With(a.mem, pagesAt(infer.Spread(addrs, judged))), vmcs.Search{
		Note: a.Layout, Found: layouts(a.Notes), Files: files, Learnt: learnt, Explain: s.Explain, Partial: a.Shortfall.Partial(), VMCOREINFO: a.info,
		Nested: a.within != nil,
	})
	if err != nil {
		a.keep(err) // none of the pages can be read
		return ctx.Err()
	}
	a.Found = found
	a.takeNote()
	if found.Layout == nil && learnt != nil {
		// It has too few fields to recognise a VMCS, but KVM tells which pages are.
		a.Layout, a.LayoutFrom, found.Layout, found.Trials = learnt, LayoutLearnt, learnt, nil
	}
	l := found.Layout
	if l == nil {
		l = a.Layout
	}
	if l != nil {
		a.takeVMCSs(l, addrs, owners)
	}
	return nil
}

// addrsOfVMCSs returns the addresses of KVM's VMCSs, rising, and which vCPU
// owns each. Shadow VMCSs, and those of a machine's own machines, have no
// owner.
func (a *asked) addrsOfVMCSs() (addrs []uint64, owners map[uint64]*VCPU) {
	owners = make(map[uint64]*VCPU)
	for _, v := range a.all {
		if v.VMCSAddr != 0 {
			addrs, owners[v.VMCSAddr] = append(addrs, v.VMCSAddr), v
		}
		if x := v.from.VMX; x != nil {
			for _, other := range []uint64{x.VMCS02, x.Shadow} {
				if other != 0 {
					addrs = append(addrs, other)
				}
			}
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), owners
}

// takeVMCSs takes the pages at addrs as VMCSs of the layout l, whatever they
// look like, because KVM knows that they are. Those that have an owner become
// Found's VMCSs.
func (a *asked) takeVMCSs(l *vmcs.Layout, addrs []uint64, owners map[uint64]*VCPU) {
	found := a.Found
	a.known = make(map[uint64]*vmcs.Candidate)
	for _, c := range slices.Concat(found.VMCSs, found.Others) {
		a.known[c.Addr] = c
	}
	found.VMCSs = nil
	for _, addr := range addrs {
		c := a.known[addr]
		if c == nil || c.Layout != l {
			if len(a.known) >= vmcs.MaxVMCSs {
				found.Dropped++
				continue
			}
			c = &vmcs.Candidate{VMCS: vmcs.VMCS{Addr: addr, Page: make([]byte, vmcs.PageSize), Layout: l}}
			if _, err := a.mem.ReadPhys(c.Page, addr); err != nil {
				a.keep(err)
				continue
			}
			a.known[addr] = c
		}
		if v := owners[addr]; v != nil {
			c.Verdict, v.Candidate = vmcs.Live, c
			found.VMCSs = append(found.VMCSs, c)
		}
	}
	found.Others = slices.DeleteFunc(found.Others, func(c *vmcs.Candidate) bool { return owners[c.Addr] != nil })
}

// judged is how many VMCSs are weighed to choose a layout. Each costs walks
// through its host's page tables, and KVM knows that they are VMCSs.
const judged = 256

// moduleNote takes the note that the module vmcsinfo publishes, if it is
// loaded.
func (a *asked) moduleNote() {
	m, _ := a.k.Module("vmcsinfo")
	if m == nil {
		return
	}
	at, err := m.Symbol("note") // kmod/note.h: char *note; size_t note_size
	var addr, size, phys uint64
	if err == nil {
		addr, err = a.k.Pointer(at)
	}
	if err == nil {
		at, err = m.Symbol("note_size")
	}
	if err == nil {
		size, err = a.k.Pointer(at)
	}
	if err == nil {
		phys, _, err = a.k.Phys(addr)
	}
	if err != nil {
		a.keep(err)
		return
	}
	b := make([]byte, min(size, elfnote.MaxBlob))
	n, _ := a.k.Read(b, addr)
	note, err := elfnote.FromBlob(b[:n], elfnote.VMCSInfo, 0, a.Core.Notes().Order)
	if err != nil {
		a.keep(err)
		return
	}
	if l, err := vmcs.ParseNote(note.Desc); err == nil {
		a.Notes = []FoundNote{{Hit: vmcore.Hit{Addr: phys, Note: note}, Layout: l, Owner: vmcs.OwnerKernel}}
	} else {
		a.keep(err)
	}
}

const (
	// vmxBytes is how much of struct vcpu_vmx after its kvm_vcpu is looked
	// at for vmcs01, which lies in its first KiB.
	vmxBytes = 0x1000
	// loadedBytes is more than struct loaded_vmcs has.
	loadedBytes = 0x200
)

// inferVMCS finds the VMCS of a vCPU if there is no BTF of kvm_intel, as before
// Linux 5.11. Struct vcpu_vmx has vmcs01, whose first word is the VMCS's
// virtual address, and then loaded_vmcs, which points to vmcs01 unless a guest
// of the machine runs. inferVMCS returns 0 if nothing matches this.
func (a *asked) inferVMCS(c *kvm.VCPU) uint64 {
	b := make([]byte, vmxBytes)
	n, _ := a.k.Read(b, c.After)
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	for i := range n / 8 {
		if word(i)%pageSize != 0 || word(i) == 0 {
			continue
		}
		for j := i + 1; j < min(n, 8*i+loadedBytes)/8; j++ {
			if word(j) != c.After+8*uint64(i) {
				continue
			}
			if phys, _, err := a.k.Phys(word(i)); err == nil {
				return phys
			}
		}
	}
	return 0
}
