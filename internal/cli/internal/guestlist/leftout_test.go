package guestlist

import (
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/vmcore"
)

// A dump without KVM's structures is one that makedumpfile made without knowing
// the kernel: the cure names the version that does, and the level that needs
// none.
func TestLeftOutHints(t *testing.T) {
	for mark, want := range map[guest.SlabMark]string{guest.SlabFlag: "knows this kernel", guest.SlabType: "1.7.6", guest.SlabInfo: "1.7.8"} {
		err := errors.Wrap(&guest.LeftOutError{Err: vmcore.ErrExcluded, Mark: mark}, "vmcore")
		if got := hint.Of(err); !strings.Contains(got, want) || !strings.Contains(got, "-d 23") {
			t.Errorf("mark %d: hint %q", mark, got)
		}
		h := &Host{Host: &guest.Host{KVMError: err}}
		if got := h.remarks(); len(got) != 2 || got[1] != "hint: "+hint.Of(err) {
			t.Errorf("mark %d: remarks %q", mark, got)
		}
	}
}
