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
	info := VMCoreInfo(c)
	if info == "" {
		return vmcs.Processor{}, errors.New("the dump has no VMCOREINFO")
	}
	k, err := linux.Open(c, info)
	if err != nil {
		return vmcs.Processor{}, err
	}
	return processorOf(k)
}

func processorOf(k *linux.Kernel) (vmcs.Processor, error) {
	c, err := k.CPU()
	return vmcs.Processor{
		Vendor: c.Vendor, Family: c.Family, Model: c.Model, Stepping: c.Stepping,
		Microcode: c.Microcode, Hypervisor: c.Hypervisor,
	}, err
}
