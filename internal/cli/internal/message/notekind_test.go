package message

import "testing"

func TestNoteKind(t *testing.T) {
	for _, tt := range []struct {
		owner string
		typ   uint32
		want  string
	}{
		{"CORE", 1, "NT_PRSTATUS, registers of a CPU or a thread"},
		{"CORE", 3, "NT_PRPSINFO"},
		{"CORE", 6, "NT_AUXV"},
		{"CORE", 0x53494749, "NT_SIGINFO"},
		{"CORE", 0x46494c45, "NT_FILE"},
		{"CORE", 0x46494c46, "not known to vmcsnote"},
		{"LINUX", 0x202, "NT_X86_XSTATE"},
		{"LINUX", 0x100, "NT_PPC_VMX"},
		{"LINUX", 0x700, "NT_VMCOREDD, a driver's own dump"},
		{"GDB", 0xff000000, "NT_GDB_TDESC"},
		{"GNU", 3, "NT_GNU_BUILD_ID"},
		{"FreeBSD", 16, "NT_PROCSTAT_AUXV"},
		{"FreeBSD", 6, "not known to vmcsnote"},
		{"nobody", 1, "not known to vmcsnote"},
	} {
		if got := NoteKind(tt.owner, tt.typ); got != tt.want {
			t.Errorf("%s, type %#x: %s, want %s", tt.owner, tt.typ, got, tt.want)
		}
	}
}
