package guest

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// Linux opens the Linux kernel that runs in the machine. It goes by the page
// tables of the machine's vCPUs, whose registers must be known
// ([Host.FindRegisters]). What is read of the machine's memory is bounded.
func (m *Machine) Linux() (*linux.Kernel, error) {
	if m.kernel != nil {
		return m.kernel, nil
	}
	mem, err := m.Memory()
	if err != nil {
		return nil, err
	}
	var regs []*Registers
	for _, v := range m.VCPUs {
		regs = append(regs, v.Regs)
	}
	m.kernel, err = findLinux(mem, regs)
	return m.kernel, err
}

// findLinux finds the Linux kernel in a machine's memory by the registers of its
// vCPUs.
func findLinux(mem physmem.Reader, regs []*Registers) (*linux.Kernel, error) {
	roots := rootsOf(regs)
	if len(roots) == 0 {
		return nil, errors.New("no vCPU is known to be in 64-bit mode")
	}
	return linux.Find(&limited{mem: mem, left: maxRead}, roots)
}

// rootsOf returns the page tables of vCPUs in 64-bit mode.
func rootsOf(regs []*Registers) (all []linux.Root) {
	for _, v := range regs {
		if v == nil || !v.CR3.Known() || !v.LongMode {
			continue
		}
		r := linux.Root{CR3: v.CR3.Value, Levels: 4}
		if v.CR4.Value&x86.CR4LA57 != 0 {
			r.Levels = 5
		}
		all = append(all, r)
	}
	return all
}

// errSpent means that a guest had more to read than a look takes.
var errSpent = errors.New("reading the guest's kernel takes too long: its structures are corrupt or forged")

const (
	// maxRead bounds what is read of a guest's memory for its kernel, in
	// bytes. A look at a Linux 6.12 reads some 30 MiB: .rodata until kallsyms
	// is found, then kallsyms and BTF.
	maxRead = 256 << 20
	// readCost is what each read costs besides, for small ones take time, too.
	readCost = 1 << 10
)

// limited is memory of which only so much can be read.
type limited struct {
	mem  physmem.Reader
	left int64
}

// ReadPhys implements [physmem.Reader].
func (l *limited) ReadPhys(p []byte, addr uint64) (int, error) {
	if l.left -= int64(len(p)) + readCost; l.left < 0 {
		return 0, errSpent
	}
	return l.mem.ReadPhys(p, addr)
}
