package svm

import (
	"fmt"
	"slices"
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

// Fields of which code here and elsewhere reads the values.
var (
	TSCOffset    = control("tsc_offset", 0x50, 8)
	ASID         = control("asid", 0x58, 4)
	IntCtl       = control("int_ctl", 0x60, 4)
	IntState     = control("int_state", 0x68, 4)
	ExitCode     = control("exit_code", 0x70, 8)
	ExitInfo1    = control("exit_info_1", 0x78, 8)
	ExitInfo2    = control("exit_info_2", 0x80, 8)
	ExitIntInfo  = control("exit_int_info", 0x88, 4)
	NestedCtl    = control("nested_ctl", 0x90, 8, "misc_ctl") // the latter since 7.x
	EventInj     = control("event_inj", 0xa8, 4)
	NestedCR3    = control("nested_cr3", 0xb0, 8)
	VirtExt      = control("virt_ext", 0xb8, 8, "misc_ctl2") // likewise
	Clean        = control("clean", 0xc0, 4)
	NextRIP      = control("next_rip", 0xc8, 8)
	VMSA         = control("vmsa_pa", 0x108, 8)
	SEVFeatures  = control("guest_sev_features", 0x140, 8)
	EFER         = save("efer", 0xd0, 8)
	CR4          = save("cr4", 0x148, 8)
	CR3          = save("cr3", 0x150, 8)
	CR0          = save("cr0", 0x158, 8)
	DR7          = save("dr7", 0x160, 8)
	DR6          = save("dr6", 0x168, 8)
	RFLAGS       = save("rflags", 0x170, 8)
	RIP          = save("rip", 0x178, 8)
	RSP          = save("rsp", 0x1d8, 8)
	SCET         = save("s_cet", 0x1e0, 8)
	RAX          = save("rax", 0x1f8, 8)
	KernelGSBase = save("kernel_gs_base", 0x220, 8)
	SysenterEIP  = save("sysenter_eip", 0x238, 8)
	CR2          = save("cr2", 0x240, 8)
	CPL          = save("cpl", 0xcb, 1)
)

func control(name string, offset, size int, also ...string) Field {
	f := Field{"control." + name, offset, size, also}
	for i := range f.Also {
		f.Also[i] = "control." + f.Also[i]
	}
	return f
}

// save returns a field of the save area. Inlined into all its callers it would
// make the program some KB larger, as would Read.
//
//go:noinline
func save(name string, offset, size int) Field {
	return Field{Name: "save." + name, Offset: saveArea + offset, Size: size}
}

// intercept returns the n-th word of intercepts.
func intercept(n int) Field { return control(fmt.Sprintf("intercepts[%d]", n), 4*n, 4) }

// Words of intercepts (enum intercept_words in Linux).
var (
	interceptCR        = intercept(0)
	interceptDR        = intercept(1)
	interceptException = intercept(2)
	interceptWord3     = intercept(3)
	interceptWord4     = intercept(4)
	interceptWord5     = intercept(5)
)

// segmentFields are where the save area has the parts of a segment register, in
// the order of the VMCB.
var segmentFields = [...]string{"es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"}

// segmentField returns a part of a segment register of the save area.
func segmentField(i int, part string) Field {
	at := map[string][2]int{"selector": {0, 2}, "attrib": {2, 2}, "limit": {4, 4}, "base": {8, 8}}[part]
	return save(segmentFields[i]+"."+part, 0x10*i+at[0], at[1])
}

// table is all fields but reserved ones.
var table = sync.OnceValue(func() []Field {
	all := []Field{
		interceptCR, interceptDR, interceptException, interceptWord3, interceptWord4, interceptWord5,
		control("pause_filter_thresh", 0x3c, 2), control("pause_filter_count", 0x3e, 2),
		control("iopm_base_pa", 0x40, 8), control("msrpm_base_pa", 0x48, 8),
		TSCOffset, ASID, control("tlb_ctl", 0x5c, 1), control("erap_ctl", 0x5d, 1),
		IntCtl, control("int_vector", 0x64, 4), IntState,
		ExitCode, ExitInfo1, ExitInfo2, ExitIntInfo, control("exit_int_info_err", 0x8c, 4),
		NestedCtl, control("avic_vapic_bar", 0x98, 8), control("ghcb_gpa", 0xa0, 8),
		EventInj, control("event_inj_err", 0xac, 4), NestedCR3, VirtExt, Clean, NextRIP,
		control("insn_len", 0xd0, 1), control("avic_backing_page", 0xe0, 8),
		control("avic_logical_id", 0xf0, 8), control("avic_physical_id", 0xf8, 8), VMSA,
		control("bus_lock_counter", 0x120, 2), control("allowed_sev_features", 0x138, 8), SEVFeatures,
	}
	for i := range segmentFields {
		for _, part := range []string{"selector", "attrib", "limit", "base"} {
			all = append(all, segmentField(i, part))
		}
	}
	return append(all,
		save("vmpl", 0xca, 1), CPL, EFER, CR4, CR3, CR0, DR7, DR6, RFLAGS, RIP, RSP,
		SCET, save("ssp", 0x1e8, 8), save("isst_addr", 0x1f0, 8), RAX,
		save("star", 0x200, 8), save("lstar", 0x208, 8), save("cstar", 0x210, 8), save("sfmask", 0x218, 8), KernelGSBase,
		save("sysenter_cs", 0x228, 8), save("sysenter_esp", 0x230, 8), SysenterEIP, CR2,
		save("g_pat", 0x268, 8), save("dbgctl", 0x270, 8), save("br_from", 0x278, 8), save("br_to", 0x280, 8),
		save("last_excp_from", 0x288, 8), save("last_excp_to", 0x290, 8), save("spec_ctrl", 0x2e0, 8),
	)
})

// Fields returns all fields but reserved ones, in the order in which they lie
// in the page. The 15 bytes of the instruction that exited are no field; see
// [VMCB.Instruction].
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

// Instruction returns the bytes of the instruction that caused the last exit,
// as far as the processor has stored them: with decode assists, after nested
// page faults and some others.
func (v *VMCB) Instruction() []byte {
	const length, bytes, most = 0xd0, 0xd1, 15
	return slices.Clone(v.page[bytes : bytes+min(int(v.page[length]), most)])
}
