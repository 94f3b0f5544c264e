package linux

// A CPU is the processor that a kernel was booted on. What is not known is
// zero.
type CPU struct {
	Vendor                             string // as CPUID has it: GenuineIntel
	Name                               string // the "model name" of /proc/cpuinfo
	Family, Model, Stepping, Microcode uint64
	Hypervisor                         bool // it is a virtual one
}

// cpuFields are of boot_cpu_data.
type cpuFields struct {
	Vendor    Field `btf:"x86_vendor_id"`
	Name      Field `btf:"x86_model_id"`
	Family    Field `btf:"x86"`
	Model     Field `btf:"x86_model"`
	Stepping  Field `btf:"x86_stepping|x86_mask"` // renamed in 4.16
	Microcode Field `btf:"microcode"`
	Flags     Field `btf:"x86_capability"`
}

func (f *cpuFields) binding() Binding { return Binding{"", "cpuinfo_x86", f} }

// hypervisor is X86_FEATURE_HYPERVISOR, word 4, bit 31.
const (
	hypervisorWord = 4
	hypervisorBit  = 1 << 31
)

// CPU returns the processor that the kernel was booted on.
func (k *Kernel) CPU() (c CPU, err error) {
	var f cpuFields
	if err := k.bind(f.binding()); err != nil {
		return c, err
	}
	at, err := k.Symbol("boot_cpu_data")
	if err != nil {
		return c, err
	}
	if c.Vendor, err = k.fieldText(at, f.Vendor); err != nil {
		return CPU{}, err
	}
	if c.Name, err = k.fieldText(at, f.Name); err != nil {
		return CPU{}, err
	}
	err = k.values(at, want{&f.Family, &c.Family}, want{&f.Model, &c.Model}, want{&f.Stepping, &c.Stepping}, want{&f.Microcode, &c.Microcode})
	if err != nil {
		return CPU{}, err
	}
	flags, err := k.Elements(at, f.Flags)
	c.Hypervisor = len(flags) > hypervisorWord && flags[hypervisorWord]&hypervisorBit != 0
	return c, err
}
