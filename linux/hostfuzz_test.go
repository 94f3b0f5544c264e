package linux_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/physmem"
)

// FuzzHost changes bytes of a real kernel: of its kallsyms, its BTF, its page
// tables, lists and trees. What report does with them must end.
func FuzzHost(f *testing.F) {
	image := testcores.Image(f, "linux-host/amd-6.12")
	mem, info, err := openDump(image, image.Size())
	if err != nil {
		f.Fatal(err)
	}
	rec := &recorder{mem: mem, pages: map[uint64]bool{}}
	k, err := linux.Open(rec, info)
	if err != nil {
		f.Fatal(err)
	}
	if err := report(new(strings.Builder), k); err != nil {
		f.Fatal(err)
	}
	pages := slices.Sorted(maps.Keys(rec.pages))
	for i := uint32(0); i < 8; i++ {
		f.Add(i*261*4096+i*97, []byte{byte(i * 37), 0xff, byte(i), 0x7f})
	}
	f.Fuzz(func(t *testing.T, at uint32, b []byte) {
		page := pages[int(at/4096)%len(pages)]
		changed := overlay{mem, page + uint64(at%4096), b[:min(len(b), 4096)]}
		k, err := linux.Open(changed, info)
		if err != nil {
			t.Fatal(err)
		}
		report(new(strings.Builder), k)
		for range k.Tasks() {
		}
	})
}

// An overlay is memory with other bytes at an address.
type overlay struct {
	mem  physmem.Reader
	addr uint64
	b    []byte
}

func (o overlay) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := o.mem.ReadPhys(p, addr)
	for i, c := range o.b {
		if at := o.addr + uint64(i); at >= addr && at-addr < uint64(n) {
			p[at-addr] = c
		}
	}
	return n, err
}
