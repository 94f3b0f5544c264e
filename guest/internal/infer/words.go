package infer

import (
	"encoding/binary"
	"sync/atomic"

	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// KVM keeps what no VMCS holds in the vCPU's structure (struct kvm_vcpu_arch,
// which begins with all this; the words from regs on, Linux 2.6.36 to 6.x):
//
//	0 to 15  the general registers, as the processor numbers them
//	16       RIP
//	17       u32 regs_avail, u32 regs_dirty: a bit per register
//	18       cr0        20  cr2        21  cr3        22  cr4
//
// and, a few words on, efer and apic_base.
const (
	rsp      = 4
	kvmRIP   = 16
	kvmDirty = 17
	kvmCR0   = 18
	kvmCR2   = 20
	kvmCR3   = 21
	kvmCR4   = 22
	kvmWords = 23

	// kvmMore is how many words are read to find efer and apic_base.
	kvmMore = 36
)

// regs_avail has a bit for each register that the array holds. After a VM exit
// all general registers are there but RSP, which the processor keeps.
const availAlways = 0xffff &^ (1 << rsp)

// A wanted is what KVM's structure of one vCPU must have in it.
type wanted struct {
	v            *vmcs.VMCS
	cr0, cr0Mask uint64 // as the guest sees it, and the bits of it that KVM keeps current
	cr4, cr4Mask uint64
	cr3          uint64
	rsp, rip     uint64
	haveCR3      bool // cr3 is the guest's, and not KVM's own table

	entryList, exitList uint64 // physical addresses of the lists of MSRs to load

	pointers []hit    // at most maxHeld
	arrays   []uint64 // physical addresses, likewise
	exact    []uint64 // where both CR3 and RSP fit, likewise
	// These report whether the lists are full, so that a guest which fills its
	// memory with more costs little.
	fullPointers, fullArrays, fullExact atomic.Bool
}

// newWanted returns what to look for. It returns false if the layout lacks a
// field for it.
func newWanted(v *vmcs.VMCS) (w *wanted, ok bool) {
	w = &wanted{v: v}
	w.haveCR3 = v.OwnCR3()
	var ok0, ok4 bool
	w.cr0, ok0 = v.GuestCR0()
	w.cr4, ok4 = v.GuestCR4()
	w.cr0Mask, _ = v.Read(vmcs.CR0GuestHostMask)
	w.cr4Mask, _ = v.Read(vmcs.CR4GuestHostMask)
	w.cr3, _ = v.Read(vmcs.GuestCR3)
	w.entryList, _ = v.Read(vmcs.VMEntryMSRLoadAddr)
	w.exitList, _ = v.Read(vmcs.VMExitMSRLoadAddr)
	var okRIP bool
	w.rip, okRIP = v.Read(vmcs.GuestRIP)
	w.rsp, ok = v.Read(vmcs.GuestRSP)
	return w, ok && okRIP && ok0 && ok4
}

// match reports whether kvmWords words are the vCPU's registers. CR0 and CR4
// must equal those of the VMCS, except in bits that the guest may change
// without KVM's notice. CR3 or RSP must, too, because a vCPU's neighbours may
// have the same CR0 and CR4. RSP and RIP must, if KVM has them and has not
// changed them.
func (w *wanted) match(b []byte) bool {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	clean := word(kvmDirty) &^ (word(kvmDirty) >> 32)
	if clean>>rsp&1 != 0 && word(rsp) != w.rsp || clean>>kvmRIP&1 != 0 && word(kvmRIP) != w.rip {
		return false
	}
	return (word(kvmCR0)^w.cr0)&(w.cr0Mask|^uint64(1<<32-1)) == 0 &&
		(word(kvmCR4)^w.cr4)&(w.cr4Mask|^uint64(1<<32-1)) == 0 &&
		(word(rsp) == w.rsp || w.haveCR3 && word(kvmCR3) == w.cr3) &&
		word(kvmDirty)&availAlways == availAlways
}

// exactly reports whether both CR3 and RSP of words that match are the vCPU's.
func (w *wanted) exactly(b []byte) bool {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return word(rsp) == w.rsp && w.haveCR3 && word(kvmCR3) == w.cr3
}

// agrees reports whether the RSP or the RIP of words that match is the vCPU's.
// KVM's copies may be old, so false proves nothing. If KVM has emulated the
// instruction at which the guest stopped, RIP is that of the next one.
func (w *wanted) agrees(b []byte) bool {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	avail, dirty := word(kvmDirty)>>kvmRIP&1 != 0, word(kvmDirty)>>32>>kvmRIP&1 != 0
	next := w.rip
	if dirty {
		size, _ := w.v.Read(vmcs.VMExitInstructionLen)
		next += size
	}
	return w.rsp != 0 && word(rsp) == w.rsp || next != 0 && avail && word(kvmRIP) == next
}

// copies are the registers in the words of KVM's structure.
func (w *wanted) copies(b []byte) Copies {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	c := Copies{RIP: word(kvmRIP), CR2: word(kvmCR2), CR3: word(kvmCR3)}
	for i := range c.GPR {
		c.GPR[i] = word(i)
	}
	// VCPU_EXREG_CR3 is 19 since Linux 5.8, and was 18 before. The other of the
	// two is never dirty.
	bits := func(v uint64) uint64 { return v&(1<<19-1) | (v>>18|v>>19)&1<<19 }
	c.Avail, c.Dirty = bits(word(kvmDirty)&(1<<32-1)), bits(word(kvmDirty)>>32)
	entry, _ := w.v.Read(vmcs.VMEntryControls)
	c.EFER, c.HasEFER = findEFER(b, entry&x86.EntryIA32e != 0)
	return c
}

// eferKnown is all bits of EFER that any processor has: SCE, LME, LMA, NXE,
// SVME, LMSLE, FFXSR, TCE.
const eferKnown = 0xfd01

// findEFER looks after CR4 for IA32_EFER: well formed, in accord with the mode
// the guest runs in, and followed (since Linux 6.14, with host_debugctl in
// between) by a plausible IA32_APIC_BASE and the pointer to the APIC. It is not
// believed if two words could be it.
func findEFER(b []byte, long bool) (efer uint64, ok bool) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	for i := kvmWords; i+3 < len(b)/8; i++ {
		e := word(i)
		if e&^eferKnown != 0 || (e&x86.EFERLMA != 0) != long || long && e&x86.EFERLME == 0 {
			continue
		}
		if isAPICBase(word(i+1), word(i+2)) || word(i+1)>>16 == 0 && isAPICBase(word(i+2), word(i+3)) {
			if ok && e != efer {
				return 0, false
			}
			efer, ok = e, true
		}
	}
	return efer, ok
}

// isAPICBase reports whether a is an IA32_APIC_BASE with the APIC enabled, and
// p a pointer of the kernel's.
func isAPICBase(a, p uint64) bool {
	return a>>52 == 0 && a>>12 != 0 && a&0x2ff == 0 && a&(1<<11) != 0 && p>>56 == 0xff
}

// vcpu_vmx has, before the loaded_vmcs whose first word points to the VMCS
// (Linux 5.11 to 6.x):
//
//	struct { bool load_into_hardware; u64 data, mask; } guest_uret_msrs[7]
//	bool guest_uret_msrs_loaded
//	u64 msr_host_kernel_gs_base, msr_guest_kernel_gs_base
//	u64 spec_ctrl
//	u32 msr_ia32_umwait_control
const (
	uretMSRs   = 7
	uretWords  = 3 * uretMSRs
	beforeVMCS = uretWords + 5
)

// kernelGSBase takes MSR_KERNEL_GS_BASE out of the beforeVMCS words before
// vmcs01. The masks, all ones but perhaps for EFER's and TSX_CTRL's, tell that
// the structure is the one known. While guest_uret_msrs_loaded is set the
// processor has the guest's value, and the guest may have changed it (SWAPGS).
func kernelGSBase(b []byte) (base uint64, ok bool) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	masks := 0
	for i := 0; i < uretWords; i += 3 {
		if word(i)&0xff > 1 {
			return 0, false
		}
		if word(i+2) == ^uint64(0) {
			masks++
		}
	}
	if masks < uretMSRs-2 || word(uretWords)&0xff != 0 {
		return 0, false
	}
	base = word(uretWords + 2)
	return base, x86.Canonical(base, 57) && x86.Canonical(word(uretWords+1), 57)
}
