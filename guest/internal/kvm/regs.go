package kvm

import (
	"github.com/pkg/errors"

	"vmcsnote/linux"
)

// Registers are KVM's copies of a virtual CPU's registers. Not all are good:
// KVM reads some from the VMCS or VMCB when it needs them.
type Registers struct {
	GPR [16]uint64 // RAX RCX RDX RBX RSP RBP RSI RDI, R8 to R15
	RIP uint64
	// Avail and Dirty have a bit for each of GPR, then those of RegRIP and
	// on. Avail: the copy is good. Dirty: it is newer than the VMCS or
	// VMCB. All of GPR but RSP are always good. With kvm_amd all but RSP,
	// RIP and the PDPTEs are good after each exit, whatever their bits are.
	Avail, Dirty                  uint64
	CR0, CR2, CR3, CR4, CR8, EFER uint64
}

// Bits of Registers.Avail and Dirty. They are KVM's own (enum kvm_reg), from
// Linux 5.10 to 7.3 at least; where BTF has others they are translated.
const (
	RegRSP = 4
	RegRIP = 15 + iota
	RegPDPTR
	RegCR0
	RegCR3
	RegCR4
	RegRFLAGS
	RegSegments
	RegExitInfo1
	RegExitInfo2
)

// registerNames are the enumerators without their prefix, from RegRIP on.
var registerNames = [...]string{"RIP", "PDPTR", "CR0", "CR3", "CR4", "RFLAGS", "SEGMENTS", "EXIT_INFO_1", "EXIT_INFO_2"}

// registerPrefixes are of the enumerators: the first since 7.x.
var registerPrefixes = [...]string{"VCPU_REG_", "VCPU_EXREG_", "VCPU_REGS_"}

// registerBits are the bits that KVM has for registerNames, -1 for none.
type registerBits [len(registerNames)]int

// readBits asks BTF for the bits. Without the enum they are those that are
// known.
func readBits(enum func(enum, name string) (uint64, error)) (bits registerBits, err error) {
	for i, name := range registerNames {
		bits[i] = -1
		for _, prefix := range registerPrefixes {
			bit, err := enum("kvm_reg", prefix+name)
			var noMember *linux.MemberError
			switch {
			case err == nil && bit < 64:
				bits[i] = int(bit)
			case err == nil:
				return bits, errors.WithMessagef(linux.ErrCorrupt, "%s%s is %d", prefix, name, bit)
			case errors.Is(noTypes(err), ErrNoTypes):
				bits[i] = RegRIP + i
			case errors.As(err, &noMember):
				continue
			default:
				return bits, err
			}
			break
		}
	}
	return bits, nil
}

// translate returns KVM's bits as those of Registers.
func (b registerBits) translate(have uint64) uint64 {
	bits := have & (1<<RegRIP - 1)
	for i, bit := range b {
		if bit >= 0 {
			bits |= have >> bit & 1 << (RegRIP + i)
		}
	}
	return bits
}
