package elfcore_test

import (
	"strings"
	"testing"

	"vmcsnote/vmcore/internal/testdumps"
)

func TestProcess(t *testing.T) {
	loads := "\nload p_vaddr=0x400000 p_paddr=0 size=0x1000\n"
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"a process":                     {"elf\nnotes\nnote name=CORE type=NT_PRSTATUS desc=zero:336" + loads, true},
		"a machine":                     {"elf\nnotes\nnote name=CORE type=NT_PRSTATUS desc=zero:336" + loads + "load p_vaddr=0x500000 p_paddr=0x5000 size=0x1000\n", false},
		"no address":                    {"elf\nnotes\nnote name=CORE type=NT_PRSTATUS desc=zero:336\nload p_vaddr=0 p_paddr=0 size=0x1000\n", false},
		"one PT_LOAD at 0, of a kernel": {"elf\nnotes\nnote name=VMCOREINFO desc=\"PAGESIZE=4096\\n\"" + loads, false},
		"by QEMU":                       {"elf\nnotes\nnote name=QEMU desc=zero:440" + loads, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := testdumps.OpenText(t, tt.text).Process(); got != tt.want {
				t.Errorf("process is %v", got)
			}
		})
	}
}

// TestGranule: offsets shift by whole pages of the machine.
func TestGranule(t *testing.T) {
	load := "\nload p_vaddr=0x400000 p_paddr=0x400000 size=0x1000"
	info := "elf\nnotes\nnote name=VMCOREINFO desc=\"OSRELEASE=6\\nPAGESIZE=65536\\n\""
	for name, tt := range map[string]struct {
		text string
		want int64
	}{
		"nothing said":         {"elf\nnotes\nnote name=CORE desc=zero:4" + load, 4096},
		"p_align":              {"elf\nnotes\nnote name=CORE desc=zero:4" + load + " p_align=0x2000", 8192},
		"VMCOREINFO":           {info + load, 65536},
		"VMCOREINFO less":      {info + load + " p_align=0x20000", 0x20000},
		"p_align of the notes": {"elf\nnotes p_align=0x4000\nnote name=CORE desc=zero:4" + load, 4096},
		"no power of 2":        {"elf\nnotes\nnote name=CORE desc=zero:4" + load + " p_align=0x3000", 4096},
		"absurd":               {"elf\nnotes\nnote name=CORE desc=zero:4" + load + " p_align=0x40000000", 4096},
		"absurd PAGESIZE":      {strings.Replace(info, "65536", "99999999999", 1) + load, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := testdumps.OpenText(t, tt.text).Granule(); err != nil || got != tt.want {
				t.Errorf("granule %#x, %v; want %#x", got, err, tt.want)
			}
		})
	}
}
