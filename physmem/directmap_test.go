package physmem

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pkg/errors"
)

// The loads of a kernel before 4.11 on the machine of oldIomem. Its vmalloc
// area is as large as the second range.
func oldLoads() []elf.Prog64 {
	return []elf.Prog64{
		prog(kernelMap, 0, 0x10000, dataOff+0x200000),
		prog(0xffffa80000000000, 0, 0x80000, 1<<63),
		prog(directMap+0x10000, 0, 0x10000, dataOff+0x10000),
		prog(directMap+0x100000, 0, 0x80000, dataOff+0x100000),
	}
}

// The first range begins and ends within a page.
const oldIomem = `00000000-00000fff : reserved
0000fff0-0002003f : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-0017ffff : System RAM
  00120000-0012ffff : Kernel code
  00130000-0013ffff : System RAM
`

func TestKCoreBeforeLinux411(t *testing.T) {
	data := pattern(0x180000)
	replace := func(i int, p elf.Prog64) []elf.Prog64 {
		loads := oldLoads()
		loads[i] = p
		return loads
	}
	for _, tt := range []struct {
		name  string
		loads []elf.Prog64
		iomem string
		err   string // part of the error, "" for none
	}{
		{"placed by System RAM", oldLoads(), oldIomem, ""},
		{"range that is 0 to page ends", oldLoads(), strings.Replace(oldIomem, "0000fff0-0002003f", "00010000-0001ffff", 1), ""},
		{"no iomem", oldLoads(), "", "no such file"},
		{"addresses hidden from the user", oldLoads(), "00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n",
			"found 0 System RAM ranges"},
		{"a single range may match by chance", oldLoads(), "00100000-0017ffff : System RAM\n", "found 1 System RAM ranges"},
		{"one range without a load", oldLoads(), oldIomem + "100000000-13fffffff : System RAM\n", "does not match"},
		{"one range of another size", replace(3, prog(directMap+0x100000, 0, 0x70000, dataOff)), oldIomem, "does not match"},
		{"one range at another base", replace(3, prog(directMap+0x200000, 0, 0x80000, dataOff)), oldIomem, "does not match"},
		{"two bases", append(oldLoads(), prog(0x10000, 0, 0x10000, 0), prog(0x100000, 0, 0x80000, 0)), oldIomem, "more than one base"},
		{"iomem unreadable", oldLoads(), "0010z000-0017ffff : System RAM\n", `found "0010z000-0017ffff"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := OpenKCore(kcoreRoot(t, kcoreHeaders(binary.LittleEndian, tt.loads...), data, tt.iomem))
			if tt.err != "" {
				if !errors.Is(err, ErrNoPaddr) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got error %v, want ErrNoPaddr with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			p := make([]byte, 0x1000)
			for _, addr := range []uint64{0x10000, 0x1f000, 0x120000, 0x17f000} {
				if n, err := k.ReadPhys(p, addr); n != len(p) || err != nil || !bytes.Equal(p, data[addr:][:n]) {
					t.Errorf("%#x: got %d, %v, or bytes that are not those of the memory", addr, n, err)
				}
			}
			_, err = k.ReadPhys(p, 0)
			checkError(t, err, ErrNoLoad, 0)
		})
	}
}
