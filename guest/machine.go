package guest

import (
	"cmp"
	"sort"
	"strconv"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// A Machine is a virtual machine of a host, or of a machine: the vCPUs that
// share their memory.
type Machine struct {
	// Number counts the machines of a host, or of a machine, from 0 in the
	// order in which they were created.
	Number int
	// EPTP is EPT_POINTER. It is 0 without EPT, and while none of the vCPUs has
	// run.
	EPTP uint64
	// Shadow reports whether the machine runs on shadow page tables: EPT is not
	// enabled.
	Shadow bool
	// Process is the physical address of the page tables of the process that
	// runs the machine: HOST_CR3 without PCID.
	Process uint64
	VCPUs   []*VCPU // by Number
	// Within is the machine that runs it; nil for one of the host. Nested are
	// those that it runs. Found is the result of the search for them: nil
	// without a search, or if its memory cannot be read.
	Within *Machine
	Nested []*Machine
	Found  *vmcs.Result
	// OwnKVM means that Nested is what the KVM in the machine's own kernel
	// lists: all of its machines.
	OwnKVM bool

	FoundBy FoundBy
	// Name is what the machine's owner calls it: by the command line of the
	// process that runs it (QEMU's -name), by its cgroup's name (libvirt's),
	// else that process's comm and pid. Name, UUID, Comm, Command and Cgroup
	// are chosen by others, and can hold any byte. "" unless found by KVM.
	Name string
	UUID string // by QEMU's -uuid; "" if unknown
	// PID, Comm, Command and Cgroup are of the process that runs the machine.
	// Command is nil if user memory is not in the dump.
	PID     int
	Comm    string
	Command []string
	Cgroup  string
	// Slots are KVM's own memory slots, of both address spaces; nil unless
	// found by KVM.
	Slots []Slot

	listed bool           // by KVM, with its slots: there is no need to infer any
	proc   *Process       // that runs it, if KVM's structures or a VMCS tell
	outer  physmem.Reader // the memory that its VMCSs and EPT are in
	first  *VCPU          // whose VMCS tells where the memory is
	// encrypted lets Memory open memory that is ciphertext.
	encrypted bool
	tdx       bool          // KVM says that the machine is a guest of TDX
	npt       uint64        // of a machine's machine: its nested page tables in the other's memory
	memory    *Physical     // nil until it has been opened
	kernel    *linux.Kernel // likewise
	failed    error         // why it cannot be opened, whatever registers are known
}

// FoundBy says how a machine was found.
type FoundBy uint8

const (
	// FoundByVMCS means that the machine was inferred from VMCSs in memory.
	FoundByVMCS FoundBy = iota
	// FoundByKVM means that KVM's own structures list the machine.
	FoundByKVM
)

// String returns "vmcs" or "kvm".
func (f FoundBy) String() string { return [...]string{"vmcs", "kvm"}[f] }

// Machines groups VMCSs in the memory outer by machine: those with the same
// EPT, or, without EPT, of the same process. It numbers machines and vCPUs in
// the order in which they were created: KVM assigns the lowest free VPID to
// each vCPU.
//
// A machine has another EPT in system management mode, and a third one for each
// guest of its own: these count as machines of their own, of the same process.
// A vCPU that never ran has no EPT yet, though EPT is enabled: it goes to the
// process's first machine.
func Machines(outer physmem.Reader, found []*vmcs.Candidate) []*Machine {
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
			m = &Machine{EPTP: uint64(eptp), Shadow: k.shadow, Process: process, outer: outer}
			if process != 0 {
				cr4, _ := c.Read(vmcs.HostCR4)
				m.proc = NewProcess(outer, process, cr4)
			}
			byKey[k], ms = m, append(ms, m)
			if first[process] == nil {
				first[process] = m
			}
		}
		m.add(c)
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
			m.add(c)
		} else {
			add(key{process: process}, c, 0)
		}
	}
	number(ms)
	return ms
}

func (m *Machine) add(c *vmcs.Candidate) {
	m.VCPUs = append(m.VCPUs, &VCPU{Candidate: c, Vendor: Intel, HostCPU: -1, VMCSAddr: c.Addr})
	m.first = m.VCPUs[0]
}

// number sorts machines and their vCPUs, and numbers them.
func number(ms []*Machine) {
	for _, m := range ms {
		sort.SliceStable(m.VCPUs, func(i, j int) bool { return m.VCPUs[i].compare(m.VCPUs[j]) < 0 })
		for i, v := range m.VCPUs {
			v.Number = i
		}
	}
	sort.SliceStable(ms, func(i, j int) bool { return ms[i].VCPUs[0].compare(ms[j].VCPUs[0]) < 0 })
	for i, m := range ms {
		m.Number = i
	}
}

// compare orders vCPUs by VPID, and those without by the VMCS's address.
func (v *VCPU) compare(w *VCPU) int {
	a, _ := v.VPID()
	b, _ := w.VPID()
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(v.VMCSAddr, w.VMCSAddr))
}

// ID returns the machine's number; that of a machine within another is "N.M".
func (m *Machine) ID() string {
	if m.Within != nil {
		return m.Within.ID() + "." + strconv.Itoa(m.Number)
	}
	return strconv.Itoa(m.Number)
}

// hostTable is HOST_CR3 without PCID.
func hostTable(c *vmcs.Candidate) uint64 {
	cr3, _ := c.Read(vmcs.HostCR3)
	return cr3 & x86.AddrMask
}

// Memory opens the machine's guest-physical memory. A machine without EPT needs
// the registers ([Host.FindRegisters]), and fails with [ErrNoEPT] without.
// [ErrNeverRan] means that none of the vCPUs has an EPT yet, and [ErrEncrypted]
// that only ciphertext is there; see [Machine.AllowEncrypted].
func (m *Machine) Memory() (*Physical, error) {
	if m.memory != nil || m.failed != nil {
		return m.memory, m.failed
	}
	if e := m.Encryption(); e != NotEncrypted && !m.encrypted {
		return nil, errors.WithMessage(ErrEncrypted, e.String())
	}
	if m.listed {
		m.memory = m.openKVM()
		return m.memory, nil
	}
	if m.first == nil { // on AMD's processors
		m.memory, m.failed = m.openNested()
		return m.memory, m.failed
	}
	mem, err := m.open()
	if errors.Is(err, ErrNoEPT) {
		for _, v := range m.VCPUs {
			if v.Regs == nil || !v.HasVMCS() {
				return nil, err // with them there may be a way
			}
			if s, ok := shadowOf(&v.VMCS, v.Regs); ok && err != nil {
				mem, err = openShadow(m.outer, s)
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

// Quick returns the machine without its memory slots if these would have to be
// inferred, which reads all tables of the machine's memory. Its memory is then
// what EPT maps. That is for a first look: most of what a guest's kernel has
// touched of late is mapped.
func (m *Machine) Quick() *Machine {
	mem, err := m.Memory()
	if err != nil || mem.infer == nil {
		return m
	}
	quick := *m
	quick.kernel, quick.memory = nil, &Physical{host: mem.host, ept: mem.ept}
	return &quick
}

// Forget drops what was kept since it was read: the page tables, some 600 KiB
// for each machine whose memory has been read, and the kernel, some 20 MiB.
// What Memory has returned can still be read.
func (m *Machine) Forget() {
	m.kernel = nil
	if m.proc != nil {
		m.proc.tables.Forget()
	}
	if mem := m.memory; mem != nil {
		if mem.ept != nil {
			mem.ept.Forget()
		}
		if mem.proc != nil {
			mem.proc.tables.Forget()
		}
		if m.listed && len(m.Nested) == 0 {
			m.memory = nil // KVM's slots open it again at no cost
		}
	}
}

// open opens the memory by EPT.
func (m *Machine) open() (*Physical, error) {
	if m.EPTP == 0 && !m.Shadow {
		return nil, ErrNeverRan
	}
	v := m.first
	c := memoryConfig{EPTP: m.EPTP, ModeBased: v.Secondary()&x86.SecondaryModeBasedExecute != 0}
	c.HostCR3, _ = v.Read(vmcs.HostCR3)
	c.HostCR4, _ = v.Read(vmcs.HostCR4)
	return openPhysical(m.outer, c)
}

// AddressSpace returns the address space of the process that runs the machine,
// and the memory that its pages are in; nil if that is not known.
func (m *Machine) AddressSpace() (*Process, physmem.Reader) { return m.proc, m.outer }

// Virtual returns the machine's memory by the virtual addresses of one of its
// vCPUs. Without EPT the tables of GUEST_CR3 are the hypervisor's: they lead
// straight to the host's memory, but map only what the guest has touched of
// late. The guest's own tables map everything, if they can be found.
func (m *Machine) Virtual(v *VCPU) (physmem.Reader, error) {
	mem, err := m.Memory()
	switch {
	case !v.HasVMCS() && err != nil:
		return nil, err
	case !v.HasVMCS() && (v.Regs == nil || !v.Regs.tellPaging()):
		return nil, errors.Errorf("vCPU %d: neither a VMCS nor registers tell where its page tables are", v.Number)
	case !v.HasVMCS():
		return virtualMemory{Paging: v.Regs.paging(), Mem: mem}, nil
	case !m.Shadow:
		return virtualMemory{Paging: pagingOf(&v.VMCS), Mem: mem}, err
	}
	shadow := virtualMemory{Paging: pagingOf(&v.VMCS), Mem: m.outer}
	if err != nil || v.Regs == nil {
		return shadow, nil
	}
	if s, ok := shadowOf(&v.VMCS, v.Regs); ok {
		return inTurn{shadow, virtualMemory{Paging: s.Guest, Mem: mem}}, nil
	}
	return shadow, nil
}

// inTurn reads from the second what the first does not have.
type inTurn [2]physmem.Reader

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

// Hypervisor reports whether the machine runs a hypervisor: whether any of its
// vCPUs sees CR4.VMXE set, or EFER.SVME on AMD's processors. On those it is
// false for a machine's machine: VMRUN demands EFER.SVME of every guest, so the
// bit says nothing.
func (m *Machine) Hypervisor() bool {
	for _, v := range m.VCPUs {
		switch {
		case v.HasVMCS():
			if cr4, ok := v.GuestCR4(); ok && cr4&x86.CR4VMXE != 0 {
				return true
			}
		case v.Regs == nil || v.Vendor == AMD && m.Within != nil:
		case v.Regs.CR4.Value&x86.CR4VMXE != 0, v.Regs.EFER.Value&x86.EFERSVME != 0:
			return true
		}
	}
	return false
}

// pagingOf returns the paging that translates a vCPU's virtual addresses: in
// its guest's memory, or without EPT in the host's.
func pagingOf(v *vmcs.VMCS) paging {
	var p paging
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
		return paging{}
	}
	p.HavePDPTE = true
	for i, e := range []vmcs.Encoding{vmcs.GuestPDPTR0, vmcs.GuestPDPTR1, vmcs.GuestPDPTR2, vmcs.GuestPDPTR3} {
		var ok bool
		p.PDPTE[i], ok = v.Read(e)
		p.HavePDPTE = p.HavePDPTE && ok
	}
	return p
}
