package cpulayouts

import (
	"cmp"
	"fmt"
	"slices"

	"vmcsnote/vmcs"
)

// A Refusal is why a file does not fit a processor.
type Refusal struct {
	File *File
	Why  string // "model 9e, and this one is 55"
	// Microcode means that only the microcode differs, or that the processor's
	// is not known.
	Microcode bool
}

// A Choice is the file that fits a processor, if one does.
type Choice struct {
	File *File
	// Microcode is how the microcode of File differs, if Choose was told to
	// ignore that.
	Microcode string
	// Others fit as well. Conflict reports whether one of them has fields in
	// other places.
	Others   []*File
	Conflict bool
	Refused  []Refusal
}

// Choose returns the first of the files that fits the processor. If none fits
// and anyMicrocode is set, it is the first of which only the microcode differs.
func Choose(files []*File, p vmcs.Processor, anyMicrocode bool) (c Choice) {
	var fit []*File
	for _, f := range files {
		if why, microcode := f.differs(p); why != "" {
			c.Refused = append(c.Refused, Refusal{f, why, microcode})
		} else {
			fit = append(fit, f)
		}
	}
	if len(fit) == 0 && anyMicrocode {
		for i, r := range c.Refused {
			if r.Microcode {
				c.Microcode, fit = r.Why, []*File{r.File}
				c.Refused = slices.Delete(c.Refused, i, i+1)
				break
			}
		}
	}
	if len(fit) > 0 {
		c.File, c.Others = fit[0], fit[1:]
		c.Conflict = slices.ContainsFunc(c.Others, func(f *File) bool { return !f.Layout.Same(c.File.Layout) })
	}
	return c
}

// Differ returns how the processor of a layout differs from p. It returns "" if
// they are the same, or if one of them is not known.
func Differ(own, p vmcs.Processor) string {
	if own.Family == 0 || p.Family == 0 {
		return ""
	}
	if p.Microcode == 0 || own.Microcode == 0 {
		p.Microcode, own.Microcode = 1, 1
	}
	why, _ := (&File{Processor: own}).differs(p)
	return why
}

// differs returns how a file's processor differs from p, or "". An unknown type
// or revision identifier of p is no difference, an unknown microcode is one.
func (f *File) differs(p vmcs.Processor) (why string, microcode bool) {
	own := f.Processor
	hex := func(what string, own, p uint64) string {
		return fmt.Sprintf("%s %x, and this one is %x", what, own, p)
	}
	switch {
	case p.Family == 0:
		return "the processor is not known", false
	case vendor(own) != vendor(p):
		return fmt.Sprintf("vendor %s, and this one is %s", vendor(own), vendor(p)), false
	case own.Family != p.Family:
		return hex("family", own.Family, p.Family), false
	case own.Model != p.Model:
		return hex("model", own.Model, p.Model), false
	case own.Stepping != p.Stepping:
		return hex("stepping", own.Stepping, p.Stepping), false
	case own.Type != "" && p.Type != "" && own.Type != p.Type:
		return fmt.Sprintf("type %s, and CPU 0 is %s", own.Type, p.Type), false
	case p.RevisionID != 0 && own.RevisionID != p.RevisionID:
		return hex("revision id", uint64(own.RevisionID), uint64(p.RevisionID)), false
	case own.Hypervisor && !p.Hypervisor:
		return "found in a virtual machine, and this one is real", false
	case !own.Hypervisor && p.Hypervisor:
		return "of a real processor, and this is a virtual machine, whose VMCSs are its hypervisor's", false
	case p.Microcode == 0:
		return fmt.Sprintf("microcode %x, and this one's is not known", own.Microcode), true
	case own.Microcode != p.Microcode:
		return hex("microcode", own.Microcode, p.Microcode), true
	}
	return "", false
}

// vendor returns the processor's vendor: Intel unless it says otherwise.
func vendor(p vmcs.Processor) string { return cmp.Or(p.Vendor, "GenuineIntel") }
