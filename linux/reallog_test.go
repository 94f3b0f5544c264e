package linux_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
)

// openLog opens the kernel of a golden core that holds all of its log.
func openLog(t testing.TB) (*linux.Kernel, *recorder, string) {
	t.Helper()
	image := testcores.Image(t, "deb-t1.elf31")
	mem, info, err := openDump(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{mem: mem, pages: map[uint64]bool{}}
	k, err := linux.Open(rec, info)
	if err != nil {
		t.Fatal(err)
	}
	return k, rec, info
}

// The log of a real kernel is that which makedumpfile --dump-dmesg prints.
func TestRealLog(t *testing.T) {
	k, _, _ := openLog(t)
	var b strings.Builder
	for r, err := range k.Log() {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, r)
	}
	want, err := os.ReadFile("testdata/deb-t1.dmesg")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s", b.String())
	}
	p, err := k.Panic()
	if want := (linux.Panic{Message: "sysrq triggered crash", Cause: "sysrq: Trigger a crash"}); p != want || err != nil {
		t.Errorf("panic: %q, %v", p, err)
	}
}

// FuzzLog changes bytes of a real kernel's log: of its rings and of what leads
// to them, VMCOREINFO included. What is read of it must end.
func FuzzLog(f *testing.F) {
	k, rec, info := openLog(f)
	for range k.Log() {
	}
	pages := slices.Sorted(maps.Keys(rec.pages))
	for i := range uint32(8) {
		f.Add(i*4096+i*97, []byte{byte(i * 37), 0xff, byte(i), 0x7f}, "", "")
	}
	f.Add(uint32(0), []byte{}, "SIZE(prb_desc)=24", "SIZE(prb_desc)=0")
	f.Add(uint32(0), []byte{}, "SYMBOL(prb)=", "SYMBOL(log_first_idx)=")
	f.Fuzz(func(t *testing.T, at uint32, b []byte, old, new string) {
		page := pages[int(at/4096)%len(pages)]
		k, err := linux.Open(overlay{rec.mem, page + uint64(at%4096), b[:min(len(b), 4096)]}, strings.Replace(info, old, new, 1))
		if err != nil {
			return
		}
		text := 0
		for r := range k.Log() {
			text += len(r.Text)
		}
		if text > 1<<18 { // log_buf_len
			t.Errorf("%d bytes of text", text)
		}
		k.LastLog(50)
		k.Panic()
	})
}
