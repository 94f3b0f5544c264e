package cpulayouts

import (
	"strconv"
	"strings"

	"vmcsnote/sysfs"
	"vmcsnote/vmcs"
)

// Machine returns the processor of the machine whose files are below root, by
// /proc/cpuinfo, sysfs and, if readable, the MSR IA32_VMX_BASIC in
// /dev/cpu/0/msr. An error is about /proc/cpuinfo.
func Machine(root string) (vmcs.Processor, error) {
	sys := sysfs.New(root)
	info, err := sys.CPUInfo()
	if err != nil {
		return vmcs.Processor{}, err
	}
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(info[name], 0, 64) // "unknown" is 0, too
		return n
	}
	p := vmcs.Processor{
		Vendor: info["vendor_id"], Family: number("cpu family"), Model: number("model"),
		Stepping: number("stepping"), Microcode: number("microcode"),
		Type:       sys.CoreType(),
		Hypervisor: strings.Contains(" "+info["flags"]+" ", " hypervisor "),
	}
	if basic, err := sys.MSR(0, vmxBasic); err == nil {
		p.RevisionID = uint32(basic) & 0x7fffffff
	}
	return p, nil
}

// vmxBasic is IA32_VMX_BASIC, whose bits 30:0 are the revision id.
const vmxBasic = 0x480
