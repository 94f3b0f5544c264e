package guest

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// Linux opens the Linux kernel that runs in the machine. It goes by the page
// tables of the machine's vCPUs, whose registers must be known
// ([Host.FindRegisters]). What that costs is bounded, by time and by memory.
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

// findLinux finds the Linux kernel in a machine's memory by the registers of
// its vCPUs.
func findLinux(mem physmem.Reader, regs []*Registers) (*linux.Kernel, error) {
	roots := rootsOf(regs)
	if len(roots) == 0 {
		return nil, errors.New("no vCPU is known to be in 64-bit mode")
	}
	return linux.Find(mem, roots)
}

// rootsOf returns the page tables of vCPUs in 64-bit mode.
func rootsOf(regs []*Registers) (all []linux.Root) {
	for _, v := range regs {
		if v == nil || !v.CR3.Known() || !v.LongMode {
			continue
		}
		all = append(all, linux.Root{CR3: v.CR3.Value, Levels: x86.PagesLevels(v.CR4.Value)})
	}
	return all
}
