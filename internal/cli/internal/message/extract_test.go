package message

import (
	"bytes"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/vmcore"
)

// TestExtracted prints the messages about a core with holes of all kinds,
// written or not.
func TestExtracted(t *testing.T) {
	s := &guest.Summary{Bytes: 8192, Zeros: 5000, Untouched: 4096, Lost: []guest.Loss{{Reason: vmcore.ErrNoMemory, Pages: 1, First: 0x3000}}}
	const lost = "vmcsnote: warning: 1 page could not be read, the first at 0x3000: "
	for _, tt := range []struct {
		name               string
		inProcess, written bool
		want               string
	}{
		{"written", false, true, "vmcsnote: c: 8192 bytes of the guest's memory, 0 vCPUs\n" +
			"vmcsnote: no VMCOREINFO found in guest memory (not Linux, or the page is missing)\n" +
			"vmcsnote: left out, because the guest never touched it: 4096 bytes\n" +
			"vmcsnote: warning: 5000 unreadable pages written as zeros, to keep the number of segments down\n" + lost},
		{"written out of a process's core", true, true, "vmcsnote: c: 8192 bytes of the guest's memory, 0 vCPUs\n" +
			"vmcsnote: no VMCOREINFO found in guest memory (not Linux, or the page is missing)\n" +
			"vmcsnote: left out, because the process's core lacks it: 4096 bytes\n" +
			"vmcsnote: warning: 5000 unreadable pages written as zeros, to keep the number of segments down\n" + lost},
		{"with nothing to write", false, false, lost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr bytes.Buffer
			(&Printer{Stderr: &stderr}).Extracted("c", s, tt.inProcess, tt.written)
			if want := tt.want + vmcore.ErrNoMemory.Error() + "\n"; stderr.String() != want {
				t.Errorf("%s, expected %s", &stderr, want)
			}
		})
	}
}
