package guest

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// The notes that dump-guest-memory wrote come out again, byte for byte, of the
// registers read out of them.
func TestNotesAreQEMUs(t *testing.T) {
	f, err := vmcore.OpenFile(testcores.Open(t, "deb-d1.qemu-range"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Notes()
	status, err1 := s.Note(0, 1000)
	state, err2 := s.Note(1, 1000)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	// QEMU's own emulation leaves the limit's bits 19:16 in the flags; KVM, and
	// so QEMU with it, gives none.
	for at := 152 + 10; at < 392; at += 24 {
		state.Desc[at] &^= 0xf
	}
	if got := PRStatus(1, fromQEMU(state.Desc)); !got.Equal(status) {
		t.Errorf("NT_PRSTATUS %q %d: got\n%x, want\n%x", got.Name, got.Type, got.Desc, status.Desc)
	}
	if got := qemuState(fromQEMU(state.Desc)); !got.Equal(state) {
		t.Errorf("QEMU %q %d: got\n%x, want\n%x", got.Name, got.Type, got.Desc, state.Desc)
	}
}

// fromQEMU reads QEMU's note of a CPU's state.
func fromQEMU(d []byte) *Registers {
	r := new(Registers)
	u32 := func(at int) Register { return Register{uint64(binary.LittleEndian.Uint32(d[at:])), FromVMCS} }
	u64 := func(at int) Register { return Register{binary.LittleEndian.Uint64(d[at:]), FromVMCS} }
	for i, reg := range []int{RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8, R9, R10, R11, R12, R13, R14, R15} {
		r.GPR[reg] = u64(8 + 8*i)
	}
	r.RIP, r.RFLAGS = u64(136), u64(144)
	s := &r.Seg
	for i, s := range []*SegmentRegister{&s[CS], &s[DS], &s[ES], &s[FS], &s[GS], &s[SS], &s[LDTR], &s[TR], &r.GDTR, &r.IDTR} {
		at := 152 + 24*i
		*s = SegmentRegister{Selector: u32(at), Limit: u32(at + 4), Base: u64(at + 16)}
		s.Rights = u32(at + 8)
		if s.Rights.Value >>= 8; s.Rights.Value == 0 {
			s.Rights.Value = 1 << 16
		}
	}
	r.CR0, r.CR2, r.CR3, r.CR4, r.KernelGSBase = u64(392), u64(408), u64(416), u64(424), u64(432)
	return r
}

func TestCPUNotes(t *testing.T) {
	a, b := new(Registers), new(Registers)
	a.RIP.Value, b.RIP.Value = 0xa, 0xb
	var got []string
	for _, n := range cpuNotes([]*Registers{a, b}) {
		switch {
		case n.Name == "CORE" && n.Type == 1 && len(n.Desc) == 336:
			got = append(got, string('0'+rune(n.Desc[32]))+string(rune('a'+n.Desc[112+16*8]-0xa)))
		case n.Name == "QEMU" && n.Type == 0 && len(n.Desc) == 440:
			got = append(got, "Q"+string(rune('a'+n.Desc[136]-0xa)))
		default:
			t.Errorf("%s %d, %d bytes", n.Name, n.Type, len(n.Desc))
		}
	}
	if want := []string{"1a", "2b", "Qa", "Qb"}; len(got) != 4 || [4]string(got) != [4]string(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if bytes.Equal(PRStatus(1, a).Desc, PRStatus(1, b).Desc) {
		t.Error("RIP makes no difference")
	}
}

// A layout comes out of its note as it went in.
func TestLayoutNote(t *testing.T) {
	layouts := append(vmcs.Builtin(), noteLayout(t, "../testdata/cores/vmx/hsw-default"), noteLayout(t, filepath.Join(linuxGuests, hostNames(t)[0])))
	for i, l := range layouts {
		got, err := vmcs.ParseNote(layoutNote(l).Desc)
		if err != nil {
			t.Errorf("layout %d: %v", i, err)
			continue
		}
		if got.RevisionID != l.RevisionID || got.AccessRights != l.AccessRights || len(got.Warnings) > len(l.Warnings) {
			t.Errorf("layout %d: revision %#x, rights %v, warnings %q; want %#x, %v, %q", i, got.RevisionID, got.AccessRights, got.Warnings, l.RevisionID, l.AccessRights, l.Warnings)
		}
		for _, e := range l.Entries {
			if g, ok := got.Lookup(e.Name); !e.Encoding.High() && (!ok || g.Offset != e.Offset || g.Width != e.Width || g.Encoding != e.Encoding) {
				t.Errorf("layout %d: %+v, want %+v", i, g, e)
			}
		}
	}
}

// A name out of a dump adds no line to the note.
func TestMachineNote(t *testing.T) {
	for _, tt := range []struct{ what, name, uuid, want string }{
		{"name and UUID", "web01", "00000000-0000-4000-8000-000000000001", "GUEST_NAME=web01\nGUEST_UUID=00000000-0000-4000-8000-000000000001\n"},
		{"name alone", "kvmguest[497]", "", "GUEST_NAME=kvmguest[497]\n"},
		{"UUID alone", "", "1", "GUEST_UUID=1\n"},
		{"a name with a line in it", "a\nGUEST_UUID=2", "1", `GUEST_NAME=a\x0aGUEST_UUID=2` + "\nGUEST_UUID=1\n"},
		{"a backslash", `a\x0ab`, "", `GUEST_NAME=a\x5cx0ab` + "\n"},
		{"neither", "", "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			n, ok := machineNote(&Machine{Name: tt.name, UUID: tt.uuid})
			if string(n.Desc) != tt.want || ok != (tt.want != "") || n.Name != nameMachine || n.Type != 0 {
				t.Errorf("%v, %+v: %q, expected %q", ok, n, n.Desc, tt.want)
			}
		})
	}
}
