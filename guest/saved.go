package guest

import (
	"github.com/pkg/errors"

	"vmcsnote/vmcs"
)

// saved returns the VMCSs whose contents the host's kernel left in memory when
// it crashed: they need no layout, and the processors hold nothing back. It
// returns nil if the kernel left none, or if the caller gave a layout. Only
// kernels with the patches in scripts/linux have the list; VMCOREINFO has its
// address.
func (h *Host) saved() *vmcs.Result {
	info := VMCoreInfo(h.Core)
	const list = "vmx_crash_list"
	if InfoLine(info, "SYMBOL("+list+")") == "" || h.Live || h.LayoutFrom == LayoutGiven {
		return nil
	}
	_, at, ok := imageSymbol(info, list)
	if !ok {
		h.SavedError = errors.Wrap(vmcs.ErrSaved, "VMCOREINFO does not tell where it is")
		return nil
	}
	var found *vmcs.Result
	if found, h.SavedError = vmcs.FindSaved(h.Core, at); found.Layout == nil {
		return nil
	}
	return found
}

// takeSaved assigns the saved VMCSs to their vCPUs. A vCPU without one has not
// run, or the processor that had its VMCS loaded did not react when the host
// crashed: then the VMCS in memory is old.
func (a *asked) takeSaved(found *vmcs.Result, owners map[uint64]*VCPU) {
	a.Found, a.known = found, make(map[uint64]*vmcs.Candidate)
	all := found.VMCSs
	found.VMCSs = nil
	for _, c := range all {
		a.known[c.Addr] = c
		if v := owners[c.Addr]; v != nil {
			v.Candidate = c
			found.VMCSs = append(found.VMCSs, c)
		}
	}
}
