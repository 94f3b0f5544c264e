package svm

import (
	"fmt"

	"vmcsnote/internal/x86"
)

// A Fault is a reason why the processor refuses a VMCB.
type Fault struct {
	Field Field
	Value uint64
	Why   string
}

// Error names the field, its value and the rule.
func (f *Fault) Error() string { return fmt.Sprintf("%s is %#x: %s", f.Field.Name, f.Value, f.Why) }

// Bits that no processor accepts (APM volume 2, "Canonicalization and
// Consistency Checks").
const (
	cr4Reserved  = ^uint64(1<<24-1)&^(1<<32) | 1<<19 | 7<<13 // bit 32 is FRED
	eferReserved = ^uint64(1<<0 | 1<<8 | 1<<10 | 0x3f<<11 | 3<<17 | 3<<20)
	vmrun        = 1 << 0 // of interceptWord4
	cr4CET       = 1 << 23
)

// Check returns what VMRUN would refuse, nil for a VMCB that it accepts. A page
// that is no VMCB hardly ever passes. VMRUN also refuses ASID 0, which a VMCB
// has until it first runs: that is a fault only if the VMCB shows an exit. If
// the guest's registers are encrypted, Check skips the save area.
func (v *VMCB) Check() []*Fault {
	var all []*Fault
	fault := func(bad bool, f Field, why string) {
		if bad {
			all = append(all, &Fault{f, v.Read(f), why})
		}
	}
	fault(v.Read(interceptWord4)&vmrun == 0, interceptWord4, "VMRUN is not intercepted")
	exited := v.Read(ExitCode) != 0 && v.Read(NextRIP) != 0
	fault(v.Read(ASID) == 0 && exited, ASID, "ASID 0 is the host's")
	fault(v.NestedPaging() && (v.Read(NestedCR3)>>52 != 0 || v.Read(NestedCR3)&0xfe7 != 0), NestedCR3, "reserved bits are set")
	for _, f := range []Field{iopmBase, msrpmBase} {
		fault(v.Read(f)>>52 != 0, f, "no physical address")
	}
	event := v.Read(EventInj)
	typ, vector := event>>8&7, event&0xff
	fault(event>>31&1 != 0 && (typ == 1 || typ > 4 || typ == 3 && (vector > 31 || vector == 2)), EventInj, "no event that can be injected")
	if v.Encryption() >= SEVES {
		fault(v.Read(VMSA)>>52 != 0 || v.Read(VMSA)%PageSize != 0, VMSA, "not the address of a page")
		return all
	}
	cr0, cr4, efer := v.Read(CR0), v.Read(CR4), v.Read(EFER)
	fault(efer&x86.EFERSVME == 0, EFER, "SVME is clear")
	fault(efer&eferReserved != 0, EFER, "reserved bits are set")
	fault(cr0&x86.CR0CD == 0 && cr0&x86.CR0NW != 0, CR0, "NW without CD")
	fault(cr0>>32 != 0, CR0, "bits 63:32 are set")
	fault(cr4&cr4Reserved != 0, CR4, "reserved bits are set")
	fault(cr4&cr4CET != 0 && cr0&x86.CR0WP == 0, CR4, "CET without CR0.WP")
	fault(v.Read(DR6)>>32 != 0, DR6, "bits 63:32 are set")
	fault(v.Read(DR7)>>32 != 0, DR7, "bits 63:32 are set")
	paged64 := efer&x86.EFERLME != 0 && cr0&x86.CR0PG != 0
	fault(paged64 && v.Read(CR3)>>52 != 0, CR3, "no physical address")
	fault(paged64 && cr4&x86.CR4PAE == 0, CR4, "long mode without PAE")
	fault(paged64 && cr0&x86.CR0PE == 0, CR0, "long mode without protection")
	cs := segmentField(segCS, "attrib")
	fault(paged64 && cr4&x86.CR4PAE != 0 && v.Read(cs)&attribLong != 0 && v.Read(cs)&attribBig != 0, cs, "code of 32 and 64 bits")
	return all
}
