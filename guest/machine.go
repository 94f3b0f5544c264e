package guest

import (
	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// A Machine is a virtual machine: the vCPUs that share their memory.
type Machine struct {
	// EPTP is EPT_POINTER. It is 0 without EPT, and while none of the vCPUs has
	// run.
	EPTP uint64
	// Shadow reports whether the machine runs on shadow page tables: EPT is not
	// enabled.
	Shadow bool
	// Process is the physical address of the page tables of the process that
	// runs the machine: HOST_CR3 without PCID.
	Process uint64
	CPUs    []*vmcs.Candidate
}

// Machines puts VMCSs together that are of the same machine: those with the
// same EPT, or, without EPT, of the same process. The order is that of the first
// VMCS of each.
//
// A machine in system management mode has another EPT, and so has one that a
// guest of this machine's runs: these are machines of their own, of the same
// process. A vCPU that never ran has no EPT yet, though it is enabled: it goes to
// the process's first machine.
func Machines(found []*vmcs.Candidate) []*Machine {
	type key struct {
		eptp, process uint64
		shadow        bool
	}
	byKey := make(map[key]*Machine)
	first := make(map[uint64]*Machine) // by process
	var fresh []*vmcs.Candidate
	var ms []*Machine
	add := func(k key, c *vmcs.Candidate, eptp x86.EPTP) {
		m := byKey[k]
		if m == nil {
			process := hostTable(c)
			m = &Machine{EPTP: uint64(eptp), Shadow: k.shadow, Process: process}
			byKey[k], ms = m, append(ms, m)
			if first[process] == nil {
				first[process] = m
			}
		}
		m.CPUs = append(m.CPUs, c)
	}
	for _, c := range found {
		switch eptp, ok := c.EPTPointer(); {
		case !ok:
			add(key{process: hostTable(c), shadow: true}, c, 0)
		case eptp.Root() == 0:
			fresh = append(fresh, c)
		default:
			add(key{eptp: eptp.Root()}, c, eptp)
		}
	}
	for _, c := range fresh {
		process := hostTable(c)
		if m := first[process]; m != nil && process != 0 {
			m.CPUs = append(m.CPUs, c)
		} else {
			add(key{process: process}, c, 0)
		}
	}
	return ms
}

// hostTable is HOST_CR3 without PCID.
func hostTable(c *vmcs.Candidate) uint64 {
	cr3, _ := c.Read(vmcs.HostCR3)
	return cr3 & x86.AddrMask
}

// Memory opens the machine's memory in the host's; see [OpenMemory]. It fails
// with [ErrNeverRan] where none of the vCPUs has an EPT yet.
func (m *Machine) Memory(host Reader) (*Memory, error) {
	if m.EPTP == 0 && !m.Shadow {
		return nil, ErrNeverRan
	}
	v := &m.CPUs[0].VMCS
	c := Config{EPTP: m.EPTP, ModeBased: v.Secondary()&x86.SecondaryModeBasedExecute != 0}
	c.HostCR3, _ = v.Read(vmcs.HostCR3)
	c.HostCR4, _ = v.Read(vmcs.HostCR4)
	return OpenMemory(host, c)
}

// Hypervisor reports whether the machine runs one: whether any of its vCPUs sees
// CR4.VMXE set.
func (m *Machine) Hypervisor() bool {
	for _, c := range m.CPUs {
		if cr4, ok := c.GuestCR4(); ok && cr4&x86.CR4VMXE != 0 {
			return true
		}
	}
	return false
}

// PagingOf is what a vCPU's virtual addresses are translated by: in its guest's
// memory, or without EPT in the host's.
func PagingOf(v *vmcs.VMCS) Paging {
	var p Paging
	p.CR0, _ = v.Read(vmcs.GuestCR0)
	p.CR3, _ = v.Read(vmcs.GuestCR3)
	p.CR4, _ = v.Read(vmcs.GuestCR4)
	if entry, _ := v.Read(vmcs.VMEntryControls); entry&x86.EntryIA32e != 0 {
		p.EFER = x86.EFERLMA
	}
	if _, ok := v.EPTPointer(); !ok {
		return p
	}
	// Processors without "unrestricted guest" run a guest whose paging is off
	// with paging on, by tables of the hypervisor's that map everything to
	// itself.
	if cr0, ok := v.GuestCR0(); ok && cr0&x86.CR0PG == 0 {
		return Paging{}
	}
	p.HavePDPTE = true
	for i, e := range []vmcs.Encoding{vmcs.GuestPDPTR0, vmcs.GuestPDPTR1, vmcs.GuestPDPTR2, vmcs.GuestPDPTR3} {
		var ok bool
		p.PDPTE[i], ok = v.Read(e)
		p.HavePDPTE = p.HavePDPTE && ok
	}
	return p
}
