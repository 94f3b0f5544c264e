package guest

import (
	"github.com/pkg/errors"

	"vmcsnote/linux"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// ProcessorOf returns the processor that a dump's kernel was booted on, if the
// kernel has BTF. Its type and its VMCSs' revision identifier are not known.
func ProcessorOf(c vmcore.Core) (vmcs.Processor, error) {
	k, err := kernelOf(c)
	if err != nil {
		return vmcs.Processor{}, err
	}
	return processorOf(k)
}

// kernelOf opens the kernel that a dump's VMCOREINFO leads to.
func kernelOf(c vmcore.Core) (*linux.Kernel, error) {
	info := VMCoreInfo(c)
	if info == "" {
		return nil, errors.New("the dump has no VMCOREINFO")
	}
	return linux.Open(c, info)
}

func processorOf(k *linux.Kernel) (vmcs.Processor, error) {
	c, err := k.CPU()
	return vmcs.Processor{
		Vendor: c.Vendor, Family: c.Family, Model: c.Model, Stepping: c.Stepping,
		Microcode: c.Microcode, Hypervisor: c.Hypervisor,
	}, err
}
