package cli

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/fakelinux"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A booted is a dump of a kernel that was booted on family 6, model 9e,
// stepping d, with microcode f4.
type booted struct {
	vmcore.Core
	kernel *fakelinux.Kernel
	notes  *elfnote.Segment
}

func (b booted) ReadPhys(p []byte, addr uint64) (int, error) { return b.kernel.ReadPhys(p, addr) }
func (b booted) Notes() *elfnote.Segment                     { return b.notes }

func newBooted(t *testing.T) booted {
	t.Helper()
	k, m := fakelinux.New(), fakelinux.M
	u8, u32, char := k.Types.Int("unsigned char", 1, false), k.Types.Int("unsigned int", 4, false), k.Types.Int("char", 1, true)
	k.Types.Struct("cpuinfo_x86", 128, m("x86", u8, 0), m("x86_model", u8, 2), m("x86_stepping", u8, 3),
		m("x86_capability", k.Types.Array(u32, 6), 8), m("x86_vendor_id", k.Types.Array(char, 16), 32), m("microcode", u32, 48), m("x86_model_id", k.Types.Array(char, 64), 64))
	cpu := make([]byte, 128)
	cpu[0], cpu[2], cpu[3], cpu[48] = 6, 0x9e, 0xd, 0xf4
	copy(cpu[32:], "GenuineIntel")
	k.Image("boot_cpu_data", cpu)
	n := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(k.Finish())}.Encode(binary.LittleEndian)
	notes, err := elfnote.Parse(bytes.NewReader(n), int64(len(n)), binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	return booted{kernel: k, notes: notes}
}

// TestOtherProcessor: inject warns of a note of another processor than the
// dump's.
func TestOtherProcessor(t *testing.T) {
	core := newBooted(t)
	for _, tt := range []struct {
		name, lines string // of the note
		stream      bool
		want        string // of the warning
	}{
		{"the same", "CPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\nCPU_MICROCODE=f4\n", false, ""},
		{"another model", "CPU_FAMILY=6\nCPU_MODEL=55\nCPU_STEPPING=4\nCPU_MICROCODE=f4\n", false, "model 55, and this one is 9e"},
		{"another microcode", "CPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\nCPU_MICROCODE=f8\n", false, "microcode f8, and this one is f4"},
		{"another model, and a stream, whose memory comes later", "CPU_FAMILY=6\nCPU_MODEL=55\n", true, ""},
		{"a note that does not tell", "", false, ""},
	} {
		l, err := vmcs.ParseNote([]byte("REVISION_ID=4\nFORM=offsets\n" + tt.lines + "FIELD(GUEST_RIP)=9d8\n"))
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		e := &env{Printer: &message.Printer{Stderr: &said}}
		e.otherProcessor(&source.Finder{Request: &source.Request{Root: t.TempDir()}, Whole: !tt.stream}, core, l)
		if got := said.String(); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: said %q, want %q", tt.name, got, tt.want)
		}
	}
}
