package linux

import (
	"fmt"
	"strings"
	"testing"

	"vmcsnote/internal/fakelinux"
)

// TestCPUUnreadable: if several fields of the processor cannot be read, the
// error is about the first of them, each time.
func TestCPUUnreadable(t *testing.T) {
	const gone = 1 << 24 // beyond the kernel's image
	f := fakelinux.New()
	b, m := f.Types, fakelinux.M
	u32, text := b.Int("unsigned int", 4, false), b.Array(b.Int("char", 1, true), 16)
	b.Struct("cpuinfo_x86", gone+32, m("x86_vendor_id", text, 0), m("x86_model_id", text, 16), m("x86_capability", b.Array(u32, 8), 32),
		m("microcode", u32, gone), m("x86_stepping", u32, gone+4), m("x86_model", u32, gone+8), m("x86", u32, gone+12))
	at := f.Image("boot_cpu_data", make([]byte, 64))
	k := openFake(t, f, f.Finish())
	want := fmt.Sprintf("%#x", at+gone+12)
	for range 50 {
		if _, err := k.CPU(); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("error %v, expected one about x86 at %s", err, want)
		}
	}
}
