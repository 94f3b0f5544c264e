package guest

import (
	"strconv"

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
	symbol := InfoLine(info, "SYMBOL(vmx_crash_list)")
	if symbol == "" || h.Live || h.LayoutFrom == LayoutGiven {
		return nil
	}
	addr, err := strconv.ParseUint(symbol, 16, 64)
	base, err2 := strconv.ParseInt(InfoLine(info, "NUMBER(phys_base)"), 10, 64)
	if err != nil || err2 != nil || addr < startKernelMap {
		h.SavedError = errors.Wrap(vmcs.ErrSaved, "VMCOREINFO does not tell where it is")
		return nil
	}
	var found *vmcs.Result
	if found, h.SavedError = vmcs.FindSaved(h.Core, addr-startKernelMap+uint64(base)); found.Layout == nil {
		return nil
	}
	return found
}

// takeSaved gives the vCPUs their saved VMCSs. Those without one have not run,
// or the processor that had their VMCS loaded did not react when the host
// crashed: then what memory has of it is old.
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
