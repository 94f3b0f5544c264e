package guest

import (
	"context"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/guest/internal/learn"
	"vmcsnote/vmcs"
)

// ErrNotLearnt means that KVM's copies of what is in VMCSs tell too little of
// their layout: KVM ran too few vCPUs, or the VMCSs are older than the copies.
var ErrNotLearnt = errors.New("KVM's copies of what is in its VMCSs tell too little of their layout")

// Learn infers the layout of the host's VMCSs from KVM's own copies of their
// fields, whatever VMCSINFO there is. It also returns the processor that the
// host's kernel was booted on. The layout has only fields whose places are
// certain. An error wraps [ErrNotLearnt], or is why KVM's structures cannot be
// read.
func (h *Host) Learn(ctx context.Context) (*vmcs.Layout, vmcs.Processor, error) {
	own := *h
	a, err := own.openKernel()
	if err != nil {
		return nil, vmcs.Processor{}, err
	}
	switch err := a.listMachines(ctx); {
	case err != nil:
		return nil, vmcs.Processor{}, err
	case !a.hv.Intel:
		return nil, vmcs.Processor{}, errors.New("the host's KVM is not that for Intel's processors: it has no VMCSs")
	case a.Live:
		return nil, vmcs.Processor{}, errors.New("the host is running: VMCSs may still be in the processors")
	}
	l := a.learn()
	if l == nil {
		return nil, vmcs.Processor{}, ErrNotLearnt
	}
	p, _ := processorOf(a.k)
	p.RevisionID = l.RevisionID
	return l, p, nil
}

// maxLearnt is how many vCPUs the layout of VMCSs is learnt from at most.
const maxLearnt = 256

// learn returns what KVM's own copies tell of the layout of VMCSs; nil if that
// is too little.
func (a *asked) learn() *vmcs.Layout {
	if !a.hv.Intel || a.Live {
		return nil
	}
	var all []learn.VMCS
	for _, v := range infer.Spread(a.all, maxLearnt) {
		if v.VMCSAddr == 0 {
			continue
		}
		page := make([]byte, vmcs.PageSize)
		if _, err := a.mem.ReadPhys(page, v.VMCSAddr); err != nil {
			continue
		}
		if values := learn.Values(v.from, a.apicAccess(v)); values != nil {
			all = append(all, learn.VMCS{Page: page, Values: values})
		}
	}
	return learn.Layout(all)
}

// apicAccess returns the physical address of the page that accesses to a vCPU's
// APIC go to, 0 if that is not known. KVM has a slot of its own for it, above
// the process's.
func (a *asked) apicAccess(v *VCPU) uint64 {
	const base, userSlots = 0xfee00000, 32764
	for _, m := range a.Machines {
		if !slices.Contains(m.VCPUs, v) || m.proc == nil {
			continue
		}
		for _, s := range m.Slots {
			if s.GPA == base && s.Space == 0 && s.ID >= userSlots {
				if at, err := m.proc.Translate(s.HVA); err == nil {
					return at.Phys + s.HVA - at.Addr
				}
			}
		}
	}
	return 0
}
