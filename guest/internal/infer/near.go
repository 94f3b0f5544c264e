package infer

import (
	"context"
	"slices"

	"vmcsnote/physmem"
)

// KVM's structure of a vCPU (struct vcpu_vmx) holds the lists of MSRs that the
// processor loads on VM entry and exit (msr_autoload, since Linux 2.6.36), so
// two fields of the VMCS have physical addresses inside of the structure. What
// is searched for is there as well: the registers, 7 KB below in Linux 6.1, and
// the pointer to the VMCS.
const (
	belowLists = walkDown + 0x1000
	aboveLists = 0x1000
	// The lists are so close to each other. Other hypervisors have them in
	// pages of their own.
	listsApart = 0x1000
	maxPhys    = 1 << 52
)

// near returns the memory that has KVM's structure of w's vCPU in it. It
// returns false if the VMCS does not tell.
func (w *wanted) near() (physmem.Range, bool) {
	if w.exitList <= w.entryList || w.exitList-w.entryList >= listsApart || w.exitList >= maxPhys ||
		w.entryList == 0 || (w.exitList|w.entryList)%16 != 0 {
		return physmem.Range{}, false
	}
	return physmem.Between(max(w.entryList, belowLists)-belowLists, w.exitList+aboveLists), true
}

// find searches for all of wants: of those whose VMCS tells where KVM's
// structure is, around it, and for the others in all memory.
func (s Search) find(ctx context.Context, wants []*wanted) error {
	var known, unknown []*wanted
	var around []physmem.Range
	for _, w := range wants {
		if r, ok := w.near(); ok {
			known, around = append(known, w), append(around, r)
		} else {
			unknown = append(unknown, w)
		}
	}
	near := Search{Mem: physmem.With(s.Mem, slices.Values(physmem.Union(around)))}
	if err := near.scan(ctx, known); err != nil {
		return err
	}
	return s.scan(ctx, unknown)
}
