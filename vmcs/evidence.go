package vmcs

import (
	"encoding/binary"

	"vmcsnote/internal/x86"
)

// evidence weighs what the page leads to: page tables, if the dump holds them.
// A page freed long ago may still look good, but what it refers to is gone.
func (j *judge) evidence(t *hostTables) {
	if link, has := j.Read(VMCSLinkPointer); has && link != ^uint64(0) {
		j.shadow(t, link)
	}
	if v, has := j.Read(HostCR3); has {
		if exit, known := j.Read(VMExitControls); !known || exit&x86.ExitHost64 != 0 {
			j.hostRoot(t, v)
		}
	}
	if p, has := j.EPTPointer(); has && p != 0 {
		j.eptRoot(t, p)
	}
}

// shadow checks the VMCS that the link pointer leads to.
func (j *judge) shadow(t *hostTables, link uint64) {
	c := Check{Name: "VMCS_LINK_POINTER's page", Want: "the same revision identifier", Weight: 2, Fails: Rejected}
	var b [4]byte
	if t.read(b[:], link&x86.AddrMask) {
		id := binary.LittleEndian.Uint32(b[:])
		c.Value, c.Answer = uint64(id), answer(id&maxRevisionID == j.RevisionID())
	}
	j.add(c)
}

// hostRoot checks the host's page tables. They are those of the process that
// runs the virtual machine, with the kernel in their upper half. When it has
// ended they are freed, empty in the lower half or used for something else.
func (j *judge) hostRoot(t *hostTables, cr3 uint64) {
	c := Check{Name: "HOST_CR3's page", Want: "page-table entries, reserved bits clear", Weight: 3, Fails: Stale}
	root := t.root(cr3)
	user, kernel, sane := 0, 0, true
	for i := 0; i < len(root); i += 8 {
		e := binary.LittleEndian.Uint64(root[i:])
		if e&x86.Present == 0 {
			continue
		}
		if i/8 < half {
			user++
		} else {
			kernel++
		}
		sane = sane && e&x86.Large == 0 && e&x86.AddrMask != 0
	}
	c.Value, c.Answer = uint64(user+kernel), answer(sane)
	if user+kernel == 0 { // some dumps have zeros for what they leave out
		c.Answer = t.gone(t.seen.host)
	}
	if j.add(c); c.Answer != Yes {
		return
	}
	t.seen.host, j.rooted = true, true
	process := true
	if rip, _ := j.Read(HostRIP); rip >= linuxText && rip < vmwareText {
		process = user > 0
		j.add(Check{Name: "HOST_CR3's page", Value: uint64(user), Want: "page-table entries for the process, Linux's KVM being the host",
			Answer: answer(process), Weight: 3, Fails: Stale})
	}
	cr4, _ := j.Read(HostCR4)
	levels := x86.PagesLevels(cr4)
	// A dump without page tables has no such mapping, nor has a host that maps
	// memory otherwise: its absence proves nothing.
	c = Check{Name: "HOST_CR3's page tables", Want: "a mapping of the VMCS's page", Weight: 4, Fails: Live}
	if base, ok := t.directMap(cr3, j.Addr, levels); ok {
		c.Value, c.Answer = base+j.Addr, Yes
		j.inUse = process
	}
	j.add(c)
	j.frame(t, cr3, levels)
}

// frame checks what Linux uses the VMCS's page for. The VMCSs of a guest that
// is a hypervisor lie in a process's memory, and so may copies of VMCSs.
func (j *judge) frame(t *hostTables, cr3 uint64, levels int) {
	if t.memMap == nil {
		return
	}
	// What HOST_CR3 leads to can be forged; the kernel's own page tables cannot,
	// but some dumps lack them.
	owner := t.owners.Of(j.Addr)
	if owner == OwnerUnknown {
		owner = t.memMap.owner(t, cr3, j.Addr, levels)
	}
	j.inUse = j.inUse && (owner == OwnerKernel || owner == OwnerUnknown)
	c := Check{Name: "struct page of the VMCS", Value: uint64(owner), Want: "a page in use", Weight: 4, Fails: Stale}
	if owner != OwnerUnknown {
		c.Answer = answer(owner != OwnerNone)
	}
	if j.add(c); c.Answer != Yes {
		return
	}
	// A hypervisor other than KVM may keep VMCSs in its process's memory.
	c = Check{Name: "struct page of the VMCS", Value: uint64(owner), Want: "neither a process's memory nor a file's", Weight: 4, Fails: Live, Answer: answer(owner == OwnerKernel)}
	if t.seen.kernel {
		c.Fails = Stale
	}
	j.add(c)
	t.seen.kernel = t.seen.kernel || owner == OwnerKernel
}

// eptRoot checks the first of the extended page tables. KVM keeps that table,
// perhaps emptied, as long as a virtual CPU may run on it. But a virtual CPU
// that has not run since it was reset (kvm_mmu_unload) refers to a freed one:
// if all else says that the VMCS is in use, this check proves nothing.
func (j *judge) eptRoot(t *hostTables, p x86.EPTP) {
	c := Check{Name: "EPT_POINTER's page", Want: "EPT entries, reserved bits clear", Weight: 3, Fails: Stale}
	if j.inUse {
		c.Fails = Live
	}
	root := t.root(p.Root())
	present, sane := 0, true
	for i := 0; i < len(root); i += 8 {
		if e := binary.LittleEndian.Uint64(root[i:]); e&5 != 0 { // readable or executable
			present++
			sane = sane && e&0xf8 == 0 && e&x86.AddrMask != 0
		}
	}
	c.Value, c.Answer = uint64(present), answer(sane)
	if root == nil {
		c.Answer = t.gone(t.seen.ept)
	}
	if j.add(c); c.Answer == Yes {
		t.seen.ept = true
		j.should("EPT_POINTER's page", uint64(present), "an entry or more", present > 0)
	}
}
