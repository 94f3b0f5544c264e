package cli

import (
	"bytes"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/vmcore"
)

// What is said of a core written, or not, with holes of all kinds.
func TestExtracted(t *testing.T) {
	s := &guest.Summary{Bytes: 8192, Zeros: 5000, Untouched: 4096, Lost: []guest.Loss{{Reason: vmcore.ErrNoMemory, Pages: 1, First: 0x3000}}}
	const lost = "vmcsnote: warning: 1 page could not be read, the first at 0x3000: "
	for _, tt := range []struct {
		name               string
		inProcess, written bool
		want               string
	}{
		{"written", false, true, "vmcsnote: c: 8192 bytes of the guest's memory, 0 vCPUs\n" +
			"vmcsnote: without VMCOREINFO: there is none in its memory; it is no Linux, or the page is missing\n" +
			"vmcsnote: never touched by the guest, and left out: 4096 bytes\n" +
			"vmcsnote: warning: 5000 pages that could not be read shown as zeros, for the core would have too many segments\n" + lost},
		{"written out of a process's core", true, true, "vmcsnote: c: 8192 bytes of the guest's memory, 0 vCPUs\n" +
			"vmcsnote: without VMCOREINFO: there is none in its memory; it is no Linux, or the page is missing\n" +
			"vmcsnote: not in the process's core, and left out: 4096 bytes\n" +
			"vmcsnote: warning: 5000 pages that could not be read shown as zeros, for the core would have too many segments\n" + lost},
		{"with nothing to write", false, false, lost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr bytes.Buffer
			(&env{stderr: &stderr}).extracted("c", s, tt.inProcess, tt.written)
			if want := tt.want + vmcore.ErrNoMemory.Error() + "\n"; stderr.String() != want {
				t.Errorf("%s, expected %s", &stderr, want)
			}
		})
	}
}
