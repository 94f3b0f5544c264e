package svm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/x86"
)

// scripts/kernels writes testdata: where the struct vmcb of Debian's kernels
// has its members, by their BTF; of 5.10, whose kvm-amd has none, by its
// header. Before 5.11 the save area ended with what only a GHCB has.
func TestFieldsAgainstBTF(t *testing.T) {
	files, err := filepath.Glob("testdata/vmcb-*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v (%v)", files, err)
	}
	// The first kernel, by version, that has a field.
	since := map[string]string{
		"control.ghcb_gpa": "6.1", "control.vmsa_pa": "6.1", "save.vmpl": "6.1", "save.s_cet": "6.1", "save.ssp": "6.1", "save.isst_addr": "6.1", "save.spec_ctrl": "6.1",
		"control.erap_ctl": "7.3", "control.bus_lock_counter": "6.16", "control.allowed_sev_features": "6.16", "control.guest_sev_features": "6.16",
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for line := range strings.Lines(string(b)) {
				var name string
				var offset, size int
				if _, err := fmt.Sscanf(line, "%s %v %d", &name, &offset, &size); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				const ghcb = 0x700
				if strings.Contains(name, "reserved") || offset >= ghcb || name == "control.insn_bytes" {
					continue
				}
				f, ok := FieldByName(name)
				switch {
				case name == "control.exit_code_hi": // until 6.x a field of its own
					continue
				case name == "save.spec_ctrl" || name == "control.exit_code": // 4 bytes until 6.x
					size = f.Size
				}
				if !ok || f.Offset != offset || f.Size != size {
					t.Errorf("%s is at %#x, %d bytes; the table has %+v", name, offset, size, f)
				}
				seen[f.Name] = true
			}
			release := strings.TrimPrefix(filepath.Base(file), "vmcb-")
			for _, f := range Fields() {
				if !seen[f.Name] && !older(release, since[f.Name]) {
					t.Errorf("%s has no %s", file, f.Name)
				}
			}
		})
	}
}

// older reports whether a release is of a version before another, "" being
// none.
func older(release, version string) bool {
	var a, b, c, d int
	fmt.Sscanf(release, "%d.%d", &a, &b)
	fmt.Sscanf(version, "%d.%d", &c, &d)
	return a < c || a == c && b < d
}

// Fields neither overlap nor leave the page, and names are of one field.
func TestFieldsDisjoint(t *testing.T) {
	end := 0
	names := map[string]bool{}
	for _, f := range Fields() {
		if f.Offset < end || f.Offset+f.Size > PageSize {
			t.Errorf("%s is at %#x, the one before ends at %#x", f.Name, f.Offset, end)
		}
		end = f.Offset + f.Size
		for _, name := range append([]string{f.Name}, f.Also...) {
			_, short, _ := strings.Cut(name, ".")
			for _, n := range []string{name, short, strings.ToUpper(short)} {
				if g, ok := FieldByName(n); !ok || g.Offset != f.Offset {
					t.Errorf("%s is %+v", n, g)
				}
			}
			if names[short] {
				t.Errorf("%s is there twice", short)
			}
			names[short] = true
		}
	}
	if f, ok := FieldByName("reserved_1"); ok {
		t.Errorf("%+v", f)
	}
}

// with returns a VMCB of those values.
func with(values map[string]uint64) *VMCB {
	v := &VMCB{page: make([]byte, PageSize)}
	for name, x := range values {
		f, ok := FieldByName(name)
		if !ok {
			panic(name)
		}
		v.set(f, x)
	}
	return v
}

func (v *VMCB) set(f Field, x uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], x)
	copy(v.page[f.Offset:f.Offset+f.Size], b[:])
}

// good is a VMCB that VMRUN accepts, of a guest in long mode.
func good() map[string]uint64 {
	return map[string]uint64{
		"intercepts[4]": 1, "asid": 1, "nested_ctl": 1, "nested_cr3": 0x1234000, "iopm_base_pa": 0x5000, "msrpm_base_pa": 0x7000,
		"efer": 0x1d01, "cr0": 0x80050033, "cr4": 0x3106f0, "cr3": 0x3c68000, "dr6": 0xffff0ff0, "dr7": 0x400,
		"rflags": 0x202, "rip": 0xffffffff8d65f7c0, "cs.attrib": 0x29b, "exit_code": 0x60, "next_rip": 0xffffffff8d65f7c1,
	}
}

func TestCheck(t *testing.T) {
	if faults := with(good()).Check(); len(faults) != 0 {
		t.Errorf("a good one: %v", faults)
	}
	for _, test := range []struct {
		name   string
		change map[string]uint64
		field  string // the fault's; "" for none
	}{
		{"a page of zeros", map[string]uint64{"intercepts[4]": 0, "efer": 0}, "control.intercepts[4]"},
		{"ASID 0", map[string]uint64{"asid": 0}, "control.asid"},
		{"never ran", map[string]uint64{"asid": 0, "exit_code": 0, "next_rip": 0}, ""},
		{"nested_cr3 with reserved bits", map[string]uint64{"nested_cr3": 0x1234001}, "control.nested_cr3"},
		{"nested_cr3 beyond memory", map[string]uint64{"nested_cr3": 1 << 52}, "control.nested_cr3"},
		{"without nested paging nested_cr3 is nothing", map[string]uint64{"nested_ctl": 0, "nested_cr3": 1}, ""},
		{"I/O map beyond memory", map[string]uint64{"iopm_base_pa": 1 << 52}, "control.iopm_base_pa"},
		{"an event of a type that there is none of", map[string]uint64{"event_inj": 1<<31 | 1<<8}, "control.event_inj"},
		{"exception 32", map[string]uint64{"event_inj": 1<<31 | 3<<8 | 32}, "control.event_inj"},
		{"an event that is not valid", map[string]uint64{"event_inj": 1 << 8}, ""},
		{"no SVME", map[string]uint64{"efer": 0xd01}, "save.efer"},
		{"EFER", map[string]uint64{"efer": 1<<63 | 0x1d01}, "save.efer"},
		{"NW without CD", map[string]uint64{"cr0": 0xa0050033}, "save.cr0"},
		{"CR0", map[string]uint64{"cr0": 1<<32 | 0x80050033}, "save.cr0"},
		{"CR4", map[string]uint64{"cr4": 1<<19 | 0x3106f0}, "save.cr4"},
		{"CET without WP", map[string]uint64{"cr4": 1<<23 | 0x3106f0, "cr0": 0x80040033}, "save.cr4"},
		{"DR6", map[string]uint64{"dr6": 1 << 32}, "save.dr6"},
		{"DR7", map[string]uint64{"dr7": 1 << 32}, "save.dr7"},
		{"CR3", map[string]uint64{"cr3": 1 << 52}, "save.cr3"},
		{"long mode without PAE", map[string]uint64{"cr4": 0x3106d0}, "save.cr4"},
		{"long mode without protection", map[string]uint64{"cr0": 0x80050032}, "save.cr0"},
		{"code of 32 and 64 bits", map[string]uint64{"cs.attrib": 0x69b}, "save.cs.attrib"},
		{"encrypted registers", map[string]uint64{"nested_ctl": 7, "efer": 0, "vmsa_pa": 0x9000}, ""},
		{"encrypted registers nowhere", map[string]uint64{"nested_ctl": 7, "vmsa_pa": 0x9001}, "control.vmsa_pa"},
		{"SEV", map[string]uint64{"nested_ctl": 3, "efer": 0}, "save.efer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			values := good()
			for name, x := range test.change {
				values[name] = x
			}
			faults := with(values).Check()
			if (len(faults) == 0) != (test.field == "") || len(faults) > 0 && faults[0].Field.Name != test.field {
				t.Errorf("%v, want %s", faults, test.field)
			}
			if len(faults) > 0 && !strings.HasPrefix(faults[0].Error(), test.field+" is 0x") {
				t.Errorf("%v", faults[0])
			}
		})
	}
}

func TestExitReason(t *testing.T) {
	for _, test := range []struct {
		code, info1, info2 uint64
		want               string
	}{
		{0x00, 0, 0, "READ_CR0"},
		{0x18, 0, 0, "WRITE_CR8"},
		{0x27, 0, 0, "READ_DR7"},
		{0x41, 0, 0, "EXCEPTION_DB"},
		{0x4e, 6, 0x1000, "EXCEPTION_PF at 0x1000 (write, user)"},
		{0x49, 0, 0, "EXCEPTION_9"},
		{0x60, 0, 0, "INTR"},
		{0x61, 0, 0, "NMI"},
		{0x78, 0, 0, "HLT"},
		{0x7b, 0x3f80010, 0, "IOIO out 0x3f8"},
		{0x7b, 0x600011, 0, "IOIO in 0x60"},
		{0x7c, 0, 0, "MSR read"},
		{0x7c, 1, 0, "MSR write"},
		{0x7f, 0, 0, "SHUTDOWN"},
		{0x81, 0, 0, "VMMCALL"},
		{0x8f, 0, 0, "EFER_WRITE_TRAP"},
		{0x94, 0, 0, "CR4_WRITE_TRAP"},
		{0xa2, 0, 0, "INVPCID"},
		{0xa6, 0, 0, "IDLE_HLT"},
		{0xa7, 0, 0, "0xa7"},
		{0x400, 1<<32 | 4, 0xfee00000, "NPF at 0xfee00000 (user, final)"},
		{0x403, 0, 0, "VMGEXIT"},
		{0xf0000000, 0, 0, "SW"},
		{1<<64 - 1, 0, 0, "INVALID"},
		{1<<32 - 1, 0, 0, "INVALID"},
		{1<<64 - 2, 0, 0, "BUSY"},
		{1<<64 - 9, 0, 0, "0xfffffffffffffff7"},
	} {
		v := with(map[string]uint64{"exit_code": test.code, "exit_info_1": test.info1, "exit_info_2": test.info2})
		if got := v.ExitReason(); got != test.want {
			t.Errorf("%#x: %q, want %q", test.code, got, test.want)
		}
	}
}

func TestEvent(t *testing.T) {
	for x, want := range map[uint32]string{
		0:             "",
		0x20:          "",
		1<<31 | 0xec:  "external interrupt 0xec",
		1<<31 | 0xb0e: "exception 0xe, error code",
		1<<31 | 0x202: "NMI 0x2",
		1<<31 | 0x480: "software interrupt 0x80",
	} {
		if got := event(x); got != want {
			t.Errorf("%#x: %q, want %q", x, got, want)
		}
	}
}

func TestEncryption(t *testing.T) {
	for _, test := range []struct {
		ctl, features uint64
		want          string
	}{
		{0, 0, ""}, {1, 0, ""}, {4, 0, ""}, {3, 0, "SEV"}, {7, 0, "SEV-ES"}, {7, 1, "SEV-ES"}, {7, 1<<63 | 1, "SEV-SNP"}, {7, 1 << 63, "SEV-ES"},
	} {
		v := with(map[string]uint64{"nested_ctl": test.ctl, "guest_sev_features": test.features})
		if got := v.Encryption(); got.String() != test.want || v.NestedPaging() != (test.ctl&1 != 0) {
			t.Errorf("%#x, %#x: %v, want %s", test.ctl, test.features, got, test.want)
		}
	}
}

func TestFieldBits(t *testing.T) {
	for _, test := range []struct {
		name  string
		value uint64
		want  string // "-" for a field that is not of bits
	}{
		{"nested_ctl", 3, "NP_ENABLE SEV_ENABLE"},
		{"misc_ctl", 1 << 63, "bit 63"},
		{"virt_ext", 2, "VIRTUAL_VMLOAD_VMSAVE_ENABLE"},
		{"intercepts[0]", 1<<0 | 1<<15 | 1<<16 | 1<<24, "CR0_READ CR15_READ CR0_WRITE CR8_WRITE"},
		{"intercepts[1]", 1 << 23, "DR7_WRITE"},
		{"intercepts[2]", 1<<14 | 1<<18 | 1<<30, "PF MC SX"},
		{"intercepts[3]", 1<<0 | 1<<24 | 1<<31, "INTR HLT SHUTDOWN"},
		{"intercepts[4]", 1<<0 | 1<<13 | 1<<31, "VMRUN XSETBV TRAP_CR15_WRITE"},
		{"intercepts[5]", 1<<2 | 1<<6, "INVPCID IDLE_HLT"},
		{"clean", 1<<0 | 1<<12, "INTERCEPTS CET"},
		{"int_state", 1, "INTERRUPT_SHADOW"},
		{"guest_sev_features", 1<<63 | 1, "SNP_ACTIVE VALID"},
		{"allowed_sev_features", 1 << 9, "SECURE_TSC"},
		{"efer", 0x1d01, "SCE LME LMA NX SVME"},
		{"cr0", 0x80000001, "PE PG"},
		{"cr4", 1 << 5, "PAE"},
		{"rflags", 0x202, "IF"},
		{"rip", 3, "-"},
	} {
		f, ok := FieldByName(test.name)
		names, bits := FieldBits(f, test.value)
		if got := strings.Join(names, " "); !ok || bits != (test.want != "-") || bits && got != test.want {
			t.Errorf("%s: %q, %v, want %s", test.name, got, bits, test.want)
		}
	}
}

func TestFieldText(t *testing.T) {
	v := with(map[string]uint64{
		"asid": 1, "exit_code": 0x78, "event_inj": 1<<31 | 0xec, "int_ctl": 1<<24 | 1<<9 | 3<<16 | 5, "tlb_ctl": 3,
		"cs.attrib": 0xa9b, "ss.attrib": 0xc93, "ldtr.attrib": 0, "idtr.attrib": 0x82,
	})
	for name, want := range map[string]string{
		"exit_code": "HLT", "event_inj": "external interrupt 0xec", "exit_int_info": "", "int_ctl": "V_TPR 5, priority 3, V_GIF, V_INTR_MASKING",
		"tlb_ctl": "flush ASID", "cs.attrib": "rx 64-bit dpl0", "ss.attrib": "rw dpl0", "ldtr.attrib": "unusable", "idtr.attrib": "", "rip": "", "cs.base": "",
	} {
		f, _ := FieldByName(name)
		if got := v.FieldText(f); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if f, _ := FieldByName("exit_code"); with(nil).FieldText(f) != "" {
		t.Error("a vCPU that never ran has exited")
	}
}

// As QEMU's info registers has them: accessed, busy, SS's privilege level.
func TestSegments(t *testing.T) {
	values := good()
	for name, x := range map[string]uint64{
		"cs.selector": 0x10, "cs.limit": 0xffffffff, "cs.attrib": 0xa9b,
		"ss.selector": 0x18, "ss.limit": 0xffffffff, "ss.attrib": 0xc93, "cpl": 3,
		"ds.limit": 0xffffffff, "ds.attrib": 0xc92, "fs.base": 1, "tr.base": 2,
		"gdtr.base": 0xfffffe4ec941c000, "gdtr.limit": 0x7f, "idtr.base": 0xfffffe0000000000, "idtr.limit": 0xfff,
	} {
		values[name] = x
	}
	state := with(map[string]uint64{"fs.base": 0x33a323c0, "tr.selector": 0x40, "tr.base": 0xfffffe4ec941e000, "tr.limit": 0x4087, "tr.attrib": 0x89, "ldtr.attrib": 0x82})
	v := with(values)
	segments := v.Segments(state)
	want := []x86.SegmentState{
		{Name: "ES", Rights: 0x10000},
		{Name: "CS", Selector: 0x10, Limit: 0xffffffff, Rights: 0xa09b},
		{Name: "SS", Selector: 0x18, Limit: 0xffffffff, Rights: 0xc0f3},
		{Name: "DS", Limit: 0xffffffff, Rights: 0xc093},
		{Name: "FS", Base: 0x33a323c0, Rights: 0x10000},
		{Name: "GS", Rights: 0x10000},
		{Name: "LDTR", Rights: 0x82},
		{Name: "TR", Selector: 0x40, Base: 0xfffffe4ec941e000, Limit: 0x4087, Rights: 0x8b},
	}
	if !slices.Equal(segments, want) {
		t.Errorf("%+v, want %+v", segments, want)
	}
	gdt, idt := v.Tables()
	if gdt != (x86.SegmentState{Name: "GDTR", Base: 0xfffffe4ec941c000, Limit: 0x7f}) || idt != (x86.SegmentState{Name: "IDTR", Base: 0xfffffe0000000000, Limit: 0xfff}) {
		t.Errorf("%+v, %+v", gdt, idt)
	}
}

// memory is one page of zeros, at 0x1000.
type memory struct{}

var errNothing = errors.New("nothing there")

func (memory) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr != 0x1000 {
		return 0, errNothing
	}
	clear(p)
	return len(p), nil
}

func TestRead(t *testing.T) {
	v, err := Read(memory{}, 0x1000)
	if err != nil || v.Addr != 0x1000 || !v.NeverRan() || len(v.Page()) != PageSize {
		t.Errorf("%v", err)
	}
	if _, err := Read(memory{}, 0x2000); !errors.Is(err, errNothing) {
		t.Errorf("%v", err)
	}
	if _, err := Read(memory{}, 0x1008); err == nil {
		t.Error("an address within a page")
	}
	if _, err := New(0, make([]byte, 4095)); err == nil {
		t.Error("4095 bytes")
	}
}

// Whatever a page holds, it is decoded without a panic, and each rule and text
// has words.
func FuzzVMCB(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add(with(good()).page, uint16(0x400))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		page := make([]byte, PageSize)
		copy(page[int(at)%PageSize:], b)
		v, err := New(0, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range v.Check() {
			if fault.Error() == "" || fault.Why == "" {
				t.Errorf("%+v", fault)
			}
		}
		for _, field := range Fields() {
			v.FieldText(field)
			FieldBits(field, v.Read(field))
		}
		if v.ExitReason() == "" || len(v.Segments(v)) != 8 {
			t.Error("something is missing")
		}
		_, _ = v.Encryption().String(), v.NeverRan()
		v.Tables()
	})
}
