package kvm

import (
	"strconv"
	"strings"
)

// A State is where a virtual CPU was when the host was dumped.
type State string

const (
	// InGuest means that the processor executed the guest, was about to enter
	// it, or had just left it.
	InGuest State = "guest"
	// Halted means that the guest's CPU waited for an interrupt.
	Halted State = "halted"
	// Waiting means that the guest's CPU was never started, or was stopped.
	Waiting State = "waiting"
	// Preempted means that the host's scheduler has put something else in
	// its place.
	Preempted State = "preempted"
	// InHost means that the thread ran in the host: in KVM, or in its
	// process.
	InHost State = "host"
	// InVMM means that the process did not run the vCPU: it emulated a
	// device, or has paused it. Without wants_to_run (6.11) it may also have
	// waited for a page.
	InVMM State = "vmm"
)

// inGuest reports whether kvm_vcpu_arch.hflags has HF_GUEST_MASK. Before Linux
// 6.4 that was bit 5, and bit 0 was the GIF of AMD's processors, which is set
// as a rule; since then it is bit 0. Distributions that take KVM from newer
// kernels have BTF for modules, and do not need the flag.
func inGuest(hflags uint64, intel bool, release string) bool {
	const before, since = 1 << 5, 1 << 0
	switch {
	case hflags&before != 0:
		return true
	case hflags&since == 0:
		return false
	case intel: // has no GIF
		return true
	}
	major, rest, _ := strings.Cut(release, ".")
	n, _ := strconv.Atoi(major)
	digits := strings.IndexFunc(rest+".", func(r rune) bool { return r < '0' || r > '9' })
	m, _ := strconv.Atoi(rest[:digits])
	return n > 6 || n == 6 && m >= 4
}

// Values of kvm_vcpu.mode and kvm_vcpu_arch.mp_state (include/linux/kvm_host.h,
// include/uapi/linux/kvm.h).
const (
	inGuestMode      = 1
	exitingGuestMode = 2

	mpUninitialized = 1
	mpInitReceived  = 2
	mpHalted        = 3
)

// circumstances is what KVM and the scheduler keep of a vCPU.
type circumstances struct {
	mode, mpState       uint64
	preempted, blocking bool
	outside             bool // not in KVM_RUN
	running, asleep     bool // its thread; neither if that is not known
}

// state tells where the vCPU was. The mode is the strongest: KVM sets it right
// before VM entry, and takes it back after the exit.
func (c circumstances) state() State {
	switch {
	case c.mode == inGuestMode, c.mode == exitingGuestMode:
		return InGuest
	case c.mpState == mpUninitialized, c.mpState == mpInitReceived:
		return Waiting
	case c.blocking, c.mpState == mpHalted:
		return Halted
	case c.preempted && !c.running:
		return Preempted
	case c.outside, c.asleep:
		return InVMM
	}
	return InHost
}
