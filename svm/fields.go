package svm

import (
	"slices"
	"sort"
	"strings"
	"sync"
)

// A Field is a field of the VMCB.
type Field struct {
	// Name is its area, control or save, and the name that it has in Linux, in
	// the newest kernel that has it under the name of APM volume 2.
	Name   string
	Offset int // in bytes, from the start of the page
	Size   int // 1, 2, 4 or 8 bytes
	// Also are other names that Linux has had for it.
	Also []string
}

// The fields whose values code here and elsewhere reads. These are literals,
// since calls would make the program 13 KB larger.
var (
	TSCOffset    = Field{"control.tsc_offset", 0x50, 8, nil}
	ASID         = Field{"control.asid", 0x58, 4, nil}
	IntCtl       = Field{"control.int_ctl", 0x60, 4, nil}
	IntState     = Field{"control.int_state", 0x68, 4, nil}
	ExitCode     = Field{"control.exit_code", 0x70, 8, nil}
	ExitInfo1    = Field{"control.exit_info_1", 0x78, 8, nil}
	ExitInfo2    = Field{"control.exit_info_2", 0x80, 8, nil}
	ExitIntInfo  = Field{"control.exit_int_info", 0x88, 4, nil}
	NestedCtl    = Field{"control.nested_ctl", 0x90, 8, []string{"control.misc_ctl"}} // the latter since 7.x
	EventInj     = Field{"control.event_inj", 0xa8, 4, nil}
	NestedCR3    = Field{"control.nested_cr3", 0xb0, 8, nil}
	VirtExt      = Field{"control.virt_ext", 0xb8, 8, []string{"control.misc_ctl2"}} // likewise
	Clean        = Field{"control.clean", 0xc0, 4, nil}
	NextRIP      = Field{"control.next_rip", 0xc8, 8, nil}
	VMSA         = Field{"control.vmsa_pa", 0x108, 8, nil}
	SEVFeatures  = Field{"control.guest_sev_features", 0x140, 8, nil}
	EFER         = Field{"save.efer", saveArea + 0xd0, 8, nil}
	CR4          = Field{"save.cr4", saveArea + 0x148, 8, nil}
	CR3          = Field{"save.cr3", saveArea + 0x150, 8, nil}
	CR0          = Field{"save.cr0", saveArea + 0x158, 8, nil}
	DR7          = Field{"save.dr7", saveArea + 0x160, 8, nil}
	DR6          = Field{"save.dr6", saveArea + 0x168, 8, nil}
	RFLAGS       = Field{"save.rflags", saveArea + 0x170, 8, nil}
	RIP          = Field{"save.rip", saveArea + 0x178, 8, nil}
	RSP          = Field{"save.rsp", saveArea + 0x1d8, 8, nil}
	SCET         = Field{"save.s_cet", saveArea + 0x1e0, 8, nil}
	RAX          = Field{"save.rax", saveArea + 0x1f8, 8, nil}
	KernelGSBase = Field{"save.kernel_gs_base", saveArea + 0x220, 8, nil}
	SysenterEIP  = Field{"save.sysenter_eip", saveArea + 0x238, 8, nil}
	CR2          = Field{"save.cr2", saveArea + 0x240, 8, nil}
	CPL          = Field{"save.cpl", saveArea + 0xcb, 1, nil}

	iopmBase  = Field{"control.iopm_base_pa", 0x40, 8, nil}
	msrpmBase = Field{"control.msrpm_base_pa", 0x48, 8, nil}

	// Words of intercepts (enum intercept_words in Linux).
	interceptCR        = Field{"control.intercepts[0]", 0, 4, nil}
	interceptDR        = Field{"control.intercepts[1]", 4, 4, nil}
	interceptException = Field{"control.intercepts[2]", 8, 4, nil}
	interceptWord3     = Field{"control.intercepts[3]", 12, 4, nil}
	interceptWord4     = Field{"control.intercepts[4]", 16, 4, nil}
	interceptWord5     = Field{"control.intercepts[5]", 20, 4, nil}
)

// listed are all fields but reserved ones and those of segments.
var listed = []Field{
	TSCOffset, ASID, IntCtl, IntState, ExitCode, ExitInfo1, ExitInfo2, ExitIntInfo, NestedCtl,
	EventInj, NestedCR3, VirtExt, Clean, NextRIP, VMSA, SEVFeatures, EFER, CR4, CR3, CR0, DR7,
	DR6, RFLAGS, RIP, RSP, SCET, RAX, KernelGSBase, SysenterEIP, CR2, CPL, iopmBase,
	msrpmBase, interceptCR, interceptDR, interceptException, interceptWord3, interceptWord4,
	interceptWord5,
	{"control.pause_filter_thresh", 0x3c, 2, nil},
	{"control.pause_filter_count", 0x3e, 2, nil},
	{"control.tlb_ctl", 0x5c, 1, nil},
	{"control.erap_ctl", 0x5d, 1, nil},
	{"control.int_vector", 0x64, 4, nil},
	{"control.exit_int_info_err", 0x8c, 4, nil},
	{"control.avic_vapic_bar", 0x98, 8, nil},
	{"control.ghcb_gpa", 0xa0, 8, nil},
	{"control.event_inj_err", 0xac, 4, nil},
	{"control.insn_len", 0xd0, 1, nil},
	{"control.avic_backing_page", 0xe0, 8, nil},
	{"control.avic_logical_id", 0xf0, 8, nil},
	{"control.avic_physical_id", 0xf8, 8, nil},
	{"control.bus_lock_counter", 0x120, 2, nil},
	{"control.allowed_sev_features", 0x138, 8, nil},
	{"save.vmpl", saveArea + 0xca, 1, nil},
	{"save.ssp", saveArea + 0x1e8, 8, nil},
	{"save.isst_addr", saveArea + 0x1f0, 8, nil},
	{"save.star", saveArea + 0x200, 8, nil},
	{"save.lstar", saveArea + 0x208, 8, nil},
	{"save.cstar", saveArea + 0x210, 8, nil},
	{"save.sfmask", saveArea + 0x218, 8, nil},
	{"save.sysenter_cs", saveArea + 0x228, 8, nil},
	{"save.sysenter_esp", saveArea + 0x230, 8, nil},
	{"save.g_pat", saveArea + 0x268, 8, nil},
	{"save.dbgctl", saveArea + 0x270, 8, nil},
	{"save.br_from", saveArea + 0x278, 8, nil},
	{"save.br_to", saveArea + 0x280, 8, nil},
	{"save.last_excp_from", saveArea + 0x288, 8, nil},
	{"save.last_excp_to", saveArea + 0x290, 8, nil},
	{"save.spec_ctrl", saveArea + 0x2e0, 8, nil},
}

// segmentFields are where the save area has the parts of a segment register, in
// the order of the VMCB.
var segmentFields = [...]string{"es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"}

// segmentField returns a part of a segment register of the save area.
func segmentField(i int, part string) Field {
	at := map[string][2]int{"selector": {0, 2}, "attrib": {2, 2}, "limit": {4, 4}, "base": {8, 8}}[part]
	return Field{"save." + segmentFields[i] + "." + part, saveArea + 0x10*i + at[0], at[1], nil}
}

// table is all fields but reserved ones, in the order in which they lie in the
// page.
var table = sync.OnceValue(func() []Field {
	all := slices.Clone(listed)
	for i := range segmentFields {
		for _, part := range []string{"selector", "attrib", "limit", "base"} {
			all = append(all, segmentField(i, part))
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Offset < all[j].Offset })
	return all
})

// Fields returns all fields but reserved ones, in the order in which they lie
// in the page. The 15 bytes of the instruction that exited are no field.
func Fields() []Field { return slices.Clone(table()) }

// FieldByName returns the field of a name, in whatever case, with its area
// ("save.rip") or without ("rip"): no name is in both areas.
func FieldByName(name string) (Field, bool) {
	is := func(full string) bool {
		_, short, _ := strings.Cut(full, ".")
		return strings.EqualFold(name, full) || strings.EqualFold(name, short)
	}
	for _, f := range table() {
		if is(f.Name) || slices.ContainsFunc(f.Also, is) {
			return f, true
		}
	}
	return Field{}, false
}

// Save reports whether the field is in the state save area.
func (f Field) Save() bool { return f.Offset >= saveArea }
