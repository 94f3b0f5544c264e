package kdump_test

import (
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestVerify: what the other tests of hostile dumps do not make it find.
func TestVerify(t *testing.T) {
	sub := func(at int64, v uint64) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint64(b[4096+at:], v) }
	}
	typed := testdumps.VMCSInfo
	typed.Type = 1
	for _, tc := range []struct {
		name string
		spec testdumps.KDump
		text string
	}{
		{"incomplete", testdumps.KDump{Status: kdump.StatusIncomplete}, "could not finish"},
		{"vmemmap", testdumps.KDump{Status: kdump.StatusExcludedVmemmap}, "makedumpfile -e"},
		{"pages of QEMU for arm64, and a kernel of smaller ones", testdumps.KDump{BlockSize: 64 << 10, KernelPage: 4096}, "block_size at offset 0x1ac is 0x10000, expected 0x1000"},
		{"split", testdumps.KDump{Split: [2]uint64{64, 32769}}, "PFNs 0x40 to 0x8000"},
		{"version 3", testdumps.KDump{Version: 3}, "header_version is 3"},
		{"zero fill", testdumps.KDump{Fill: 20}, "20 bytes of zero fill"},
		{"two of them", testdumps.KDump{Notes: []elfnote.Note{testdumps.VMCSInfo, testdumps.VMCSInfo}}, "a second VMCSINFO note"},
		{"a CPU without registers", testdumps.KDump{Notes: []elfnote.Note{{Name: "CORE", Type: 1}}}, "holds 0 bytes, expected "},
		{"a type of its own", testdumps.KDump{Notes: []elfnote.Note{typed}}, "is of type 0x1, expected 0"},
		{"VMCOREINFO elsewhere", testdumps.KDump{Edit: sub(32, 4096+1024)}, "expected a place within the notes"},
		{"VMCOREINFO at another note", testdumps.KDump{Edit: sub(32, 4096+104+20)}, "as the note has it"},
		{"eraseinfo beyond the file", testdumps.KDump{Erase: "x", Edit: sub(64, 1<<40)}, "eraseinfo (0x1 bytes at 0x10000000000) reaches beyond"},
		{"eraseinfo in the notes", testdumps.KDump{Erase: "x", Edit: sub(64, 4096+200)}, "expected bytes apart from eraseinfo"},
		{"bad pages without end", testdumps.KDump{Pages: seq(1000), Edit: func(b []byte, h *kdump.Header) {
			clear(b[h.DescOff() : h.DescOff()+1000*plan.DescSize])
		}}, "990 more like this: page descriptor 0"},
		{"bad data without end", testdumps.KDump{Pages: seq(1000), Edit: func(b []byte, h *kdump.Header) {
			clear(b[h.DescOff()+1000*plan.DescSize:])
		}}, "790 more like this"}, // uncompressed ones cannot be told
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all strings.Builder
			found := verifyDeep(t, testdumps.OpenKDump(t, tc.spec.Build()))
			for _, f := range found {
				all.WriteString(f.Text + "\n")
			}
			if !strings.Contains(all.String(), tc.text) || len(found) > 2*plan.MaxOfKind {
				t.Errorf("it finds %s", all.String())
			}
		})
	}
}

func seq(n uint64) (s []uint64) {
	for i := range n {
		s = append(s, i)
	}
	return s
}
