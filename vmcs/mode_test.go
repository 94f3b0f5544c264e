package vmcs

import (
	"slices"
	"strings"
	"testing"
)

// vmcsWith makes a VMCS of the fields given, and no others.
func vmcsWith(fields map[string]uint64) *VMCS {
	v := &VMCS{Page: make([]byte, PageSize), Layout: &Layout{RevisionID: 1, AccessRights: RightsPlain}}
	for name, value := range fields {
		f, ok := FieldByName(name)
		if !ok {
			panic(name)
		}
		e := Entry{Name: name, Encoding: f.Encoding, Known: true, Offset: headerSize + 8*len(v.Layout.Entries), Width: f.Width()}
		v.Layout.Entries = append(v.Layout.Entries, e)
		put(v.Page[e.Offset:], e.Width, value)
	}
	return v
}

func TestMode(t *testing.T) {
	const rightsLong64, rights32 = 0xa09b, 0xc09b
	for _, tt := range []struct {
		name                   string
		cr0, mask, shadow, cr4 uint64
		entry, rflags, rights  uint64
		mode                   Mode
		emulated               bool
	}{
		{name: "64-bit", cr0: 0x80050033, cr4: 0x2620, entry: 0xd3ff, rflags: 0x202, rights: rightsLong64, mode: ModeLong},
		{name: "32-bit code in IA-32e mode", cr0: 0x80050033, cr4: 0x2620, entry: 0xd3ff, rflags: 0x202, rights: rights32, mode: ModeCompatibility},
		{name: "PAE", cr0: 0x80050033, cr4: 0x2020, entry: 0x11ff, rflags: 0x202, rights: rights32, mode: ModePAE},
		{name: "32-bit paging", cr0: 0x80050033, cr4: 0x2010, entry: 0x11ff, rflags: 0x202, rights: rights32, mode: ModeProtected},
		{name: "no paging", cr0: 0x33, cr4: 0x2000, entry: 0x11ff, rflags: 0x202, rights: rights32, mode: ModeProtected},
		{name: "a DOS box", cr0: 0x80050033, cr4: 0x2010, entry: 0x11ff, rflags: 0x23202, rights: 0xf3, mode: ModeVirtual8086},
		{name: "real mode of an unrestricted guest", cr0: 0x30, cr4: 0x2000, entry: 0x11ff, rflags: 0x202, rights: 0x9b, mode: ModeReal},
		{name: "real mode run as virtual-8086 mode", cr0: 0x80010031, mask: ^uint64(0xe), shadow: 0x60000010, cr4: 0x2021, entry: 0x11ff, rflags: 0x23202, rights: 0xf3, mode: ModeReal, emulated: true},
		{name: "protected mode without paging, run with it", cr0: 0x80010033, mask: ^uint64(0xe), shadow: 0x11, cr4: 0x2000, entry: 0x11ff, rflags: 0x202, rights: rights32, mode: ModeProtected, emulated: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := vmcsWith(map[string]uint64{"GUEST_CR0": tt.cr0, "CR0_GUEST_HOST_MASK": tt.mask, "CR0_READ_SHADOW": tt.shadow,
				"GUEST_CR4": tt.cr4, "CR4_GUEST_HOST_MASK": 0, "CR4_READ_SHADOW": 0,
				"VM_ENTRY_CONTROLS": tt.entry, "GUEST_RFLAGS": tt.rflags, "GUEST_CS_AR_BYTES": tt.rights})
			if m := v.Mode(); m != tt.mode || v.ModeEmulated() != tt.emulated {
				t.Errorf("%v, emulated %v, expected %v, %v", m, v.ModeEmulated(), tt.mode, tt.emulated)
			}
		})
	}
	if m := vmcsWith(map[string]uint64{"GUEST_CR0": 0x30}).Mode(); m != ModeUnknown {
		t.Errorf("%v without the mask, expected unknown", m)
	}
}

// TestModeOfGuests is on guests whose modes are known.
func TestModeOfGuests(t *testing.T) {
	for _, name := range vmxCores {
		res := find(t, loadMemory(t, "vmx/"+name+"/mini"), Search{Note: loadNote(t, "vmx/"+name)})
		for _, want := range loadTruth(t, "vmx/"+name).VMCSs {
			i := slices.IndexFunc(res.VMCSs, func(c *Candidate) bool { return c.Addr == want.PA })
			v := res.VMCSs[i]
			mode, emulated := ModeLong, false
			if want.Guest == "D.0" {
				mode, emulated = ModeReal, name == "penryn-no-ept"
			}
			if v.Mode() != mode || v.ModeEmulated() != emulated {
				t.Errorf("%s: %s is in mode %v, emulated %v, expected %v, %v", name, want.Guest, v.Mode(), v.ModeEmulated(), mode, emulated)
			}
			_, ept := v.EPTPointer()
			_, vpid := v.VPID()
			if ept == (name == "penryn-no-ept") || vpid != ept || v.unrestricted() != ept {
				t.Errorf("%s: EPT %v, VPID %v, unrestricted %v", want.Guest, ept, vpid, v.unrestricted())
			}
			if efer, ok := v.GuestEFER(); ok && efer != 0xd00 && mode == ModeLong {
				t.Errorf("EFER %#x", efer)
			}
			segments := v.Segments()
			if len(segments) != 8 {
				t.Fatalf("%d segments", len(segments))
			}
			if s := segments[1]; mode == ModeLong && (s.Name != "CS" || s.Selector != 8 || RightsText(s.Rights) != "rx 64-bit dpl0" || !s.Usable()) {
				t.Errorf("%+v, %s", s, RightsText(s.Rights))
			}
			if s := segments[7]; s.Name != "TR" || mode == ModeLong && (s.Base != 0x7000 || s.Limit != 0x67) {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestEFER(t *testing.T) {
	if v, ok := vmcsWith(map[string]uint64{"GUEST_IA32_EFER": 0xd01, "VM_ENTRY_CONTROLS": 0x93ff}).GuestEFER(); v != 0xd01 || !ok {
		t.Errorf("%#x, %v", v, ok)
	}
	if _, ok := vmcsWith(map[string]uint64{"GUEST_IA32_EFER": 0xd01, "VM_ENTRY_CONTROLS": 0x13ff}).GuestEFER(); ok {
		t.Error("believed without the control that loads it")
	}
}

func TestSecondary(t *testing.T) {
	off := vmcsWith(map[string]uint64{"CPU_BASED_VM_EXEC_CONTROL": 0x35986dfa, "SECONDARY_VM_EXEC_CONTROL": 0x34ea, "EPT_POINTER": 0x1000 | 0x5e, "VIRTUAL_PROCESSOR_ID": 3})
	if _, ok := off.EPTPointer(); ok || off.Secondary() != 0 {
		t.Error("EPT by secondary controls that are not activated")
	}
	if _, ok := off.VPID(); ok {
		t.Error("VPID by secondary controls that are not activated")
	}
	none := vmcsWith(map[string]uint64{"EPT_POINTER": 0x105e})
	if p, ok := none.EPTPointer(); !ok || p.Root() != 0x1000 || p.Levels() != 4 || !p.AccessedDirty() {
		t.Errorf("%#x, %v: a layout without controls", uint64(p), ok)
	}
}

func TestRightsText(t *testing.T) {
	for r, want := range map[uint32]string{
		0xa09b: "rx 64-bit dpl0", 0xc09b: "rx 32-bit dpl0", 0x9b: "rx 16-bit dpl0", 0xc0f3: "rw dpl3", 0x97: "rw-down dpl0",
		0x10082: "unusable", 0x8b: "busy-tss dpl0", 0x82: "ldt dpl0", 0x83: "busy-tss16 dpl0", 0x80: "system-0 dpl0", 0x8f: "system-f dpl0",
		0x1b: "rx 16-bit dpl0 absent", 0x9f: "rx-conforming 16-bit dpl0",
	} {
		if got := RightsText(r); got != want {
			t.Errorf("%#x: %q, expected %q", r, got, want)
		}
	}
}

func TestExitReason(t *testing.T) {
	for r, want := range map[uint32]string{
		0: "EXCEPTION_NMI", 1: "EXTERNAL_INTERRUPT", 10: "CPUID", 12: "HLT", 18: "VMCALL", 28: "CR_ACCESS", 30: "IO_INSTRUCTION", 34: "MSR_LOAD_FAIL",
		35: "35", 36: "MWAIT_INSTRUCTION", 41: "MCE_DURING_VMENTRY", 42: "42", 43: "TPR_BELOW_THRESHOLD", 48: "EPT_VIOLATION", 49: "EPT_MISCONFIG", 52: "PREEMPTION_TIMER",
		54: "WBINVD", 62: "PML_FULL", 67: "UMWAIT", 70: "ENCLV", 74: "BUS_LOCK", 75: "NOTIFY", 77: "TDCALL", 84: "MSR_READ_IMM", 85: "MSR_WRITE_IMM", 86: "86", 0xffff: "65535",
		1<<31 | 33: "INVALID_STATE, VM entry failed", 1<<27 | 1: "EXTERNAL_INTERRUPT, in an enclave", 1<<16 | 12: "HLT, bit 16",
	} {
		if got := ExitReason(r); got != want {
			t.Errorf("%#x: %q, expected %q", r, got, want)
		}
	}
	if got := Interruption(0x800000ec); got != "external interrupt 0xec" {
		t.Error(got)
	}
	if got := Interruption(0x80000b0e); got != "hardware exception 0xe, error code" {
		t.Error(got)
	}
	if got := Interruption(0xec); got != "" {
		t.Error(got)
	}
	if ActivityState(1) != "HLT" || ActivityState(9) != "9" {
		t.Error("activity states")
	}
}

// TestFieldBits is on the controls of a real VMCS, and on the places of the
// rarer bits (SDM volume 3, chapter "VMX Controls").
func TestFieldBits(t *testing.T) {
	for _, tt := range []struct {
		field string
		value uint64
		want  string
	}{
		{"PIN_BASED_VM_EXEC_CONTROL", 0x7f, "EXT_INTR_EXITING NMI_EXITING VIRTUAL_NMIS PREEMPTION_TIMER"},
		{"CPU_BASED_VM_EXEC_CONTROL", 0xb5986dfa, "USE_TSC_OFFSETTING HLT_EXITING MWAIT_EXITING RDPMC_EXITING CR8_LOAD_EXITING CR8_STORE_EXITING MOV_DR_EXITING UNCOND_IO_EXITING USE_MSR_BITMAPS MONITOR_EXITING ACTIVATE_SECONDARY_CONTROLS"},
		{"CPU_BASED_VM_EXEC_CONTROL", 1<<17 | 1<<21 | 1<<27 | 1<<30, "ACTIVATE_TERTIARY_CONTROLS TPR_SHADOW MONITOR_TRAP_FLAG PAUSE_EXITING"},
		{"SECONDARY_VM_EXEC_CONTROL", 0x34ea, "ENABLE_EPT ENABLE_RDTSCP ENABLE_VPID WBINVD_EXITING UNRESTRICTED_GUEST PAUSE_LOOP_EXITING ENABLE_INVPCID ENABLE_VMFUNC"},
		{"SECONDARY_VM_EXEC_CONTROL", 1<<14 | 1<<17 | 1<<20 | 1<<22 | 1<<25 | 1<<28 | 1<<29 | 1<<31, "SHADOW_VMCS ENABLE_PML ENABLE_XSAVES MODE_BASED_EPT_EXEC TSC_SCALING ENCLV_EXITING bit 29 NOTIFY_VM_EXITING"},
		{"TERTIARY_VM_EXEC_CONTROL", 1<<1 | 1<<4 | 1<<63, "ENABLE_HLAT IPI_VIRT bit 63"},
		{"VM_EXIT_CONTROLS", 0x2befff, "SAVE_DEBUG_CONTROLS HOST_ADDR_SPACE_SIZE ACK_INTR_ON_EXIT LOAD_IA32_PAT LOAD_IA32_EFER"},
		{"VM_EXIT_CONTROLS", 0x36dfb | 1<<22 | 1<<28 | 1<<31, "SAVE_VMX_PREEMPTION_TIMER LOAD_CET_STATE ACTIVATE_SECONDARY_CONTROLS"},
		{"VM_ENTRY_CONTROLS", 0xd3ff, "LOAD_DEBUG_CONTROLS IA32E_MODE LOAD_IA32_PAT LOAD_IA32_EFER"},
		{"VM_ENTRY_CONTROLS", 0x11fb | 1<<20 | 1<<22 | 1<<23, "LOAD_CET_STATE LOAD_PKRS LOAD_IA32_FRED"},
		{"GUEST_INTERRUPTIBILITY_INFO", 9, "STI NMI"},
		{"GUEST_CR0", 0x80050033, "PE MP ET NE WP AM PG"},
		{"GUEST_CR4", 0x1726b0, "PSE PAE PGE OSFXSR OSXMMEXCPT VMXE FSGSBASE PCIDE OSXSAVE SMEP"},
		{"HOST_IA32_EFER", 0xd01, "SCE LME LMA NX"},
		{"GUEST_RFLAGS", 0x23246, "PF ZF IF IOPL0 IOPL1 VM"},
		{"EXCEPTION_BITMAP", 0x60042, "DB UD AC MC"},
	} {
		f, _ := FieldByName(tt.field)
		names, ok := FieldBits(f.Encoding, tt.value)
		if got := strings.Join(names, " "); got != tt.want || !ok {
			t.Errorf("%s %#x: %q, expected %q", tt.field, tt.value, got, tt.want)
		}
	}
	if _, ok := FieldBits(0x681e, 1); ok {
		t.Error("GUEST_RIP is no field of bits")
	}
}
