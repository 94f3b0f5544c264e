package cli

import (
	"fmt"
	"strconv"
	"strings"

	"vmcsnote/sysfs"
	"vmcsnote/vmcs"
)

// A processor is what a layout may depend on, as hexadecimal numbers; empty
// where it is not known.
type processor struct {
	family, model, stepping, microcode string
	hypervisor                         bool // it is a virtual one
}

// processor reads that of this machine out of /proc/cpuinfo.
func (s submission) processor() (p processor) {
	info, err := sysfs.New(s.root).CPUInfo()
	if err != nil {
		return p
	}
	return processor{
		family:     inHex(info["cpu family"]),
		model:      inHex(info["model"]),
		stepping:   inHex(info["stepping"]),
		microcode:  inHex(info["microcode"]),
		hypervisor: strings.Contains(" "+info["flags"]+" ", " hypervisor "),
	}
}

// inHex makes a hexadecimal number of a decimal one, or of one with 0x.
func inHex(s string) string {
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 16)
}

// stated takes what the note itself says of the processor, in hexadecimal.
func (p *processor) stated(l *vmcs.Layout) {
	for _, f := range l.Facts {
		if n, err := strconv.ParseUint(strings.TrimPrefix(f.Value, "0x"), 16, 64); err == nil {
			value := strconv.FormatUint(n, 16)
			switch f.Key {
			case "CPU_FAMILY":
				p.family = value
			case "CPU_MODEL":
				p.model = value
			case "CPU_STEPPING":
				p.stepping = value
			case "CPU_MICROCODE":
				p.microcode = value
			}
		}
	}
}

// describe writes the head of the layout's table.
func (p processor) describe(l *vmcs.Layout) {
	l.Name = "NAME"
	if p.family != "" {
		l.Name = fmt.Sprintf("family-%s-model-%s", p.family, p.model)
	}
	l.Sources = []string{fmt.Sprintf("VMCSINFO (%s) of an Intel processor: family %s, model %s, stepping %s, microcode %s, all hexadecimal",
		l.Form, orUnknown(p.family), orUnknown(p.model), orUnknown(p.stepping), orUnknown(p.microcode))}
	l.Caveats = []string{"access rights: " + l.AccessRights.String()}
	if p.hypervisor {
		l.Caveats = append(l.Caveats, "found inside a virtual machine: the layout may be its hypervisor's")
	}
	l.Caveats = append(l.Caveats, l.Warnings...)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
