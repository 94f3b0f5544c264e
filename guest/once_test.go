package guest

import (
	"fmt"
	"slices"
	"testing"

	"vmcsnote/physmem"
)

// Memory that a guest's tables claim to map is given once for each page that
// the host has.
func TestOnce(t *testing.T) {
	const gib = 1 << 30
	whole := []physmem.Range{{Addr: 0, Size: 4 * gib}}
	for _, tt := range []struct {
		name string
		host []physmem.Range
		ept  func(r *ram, root uint64)
		want string
	}{
		{"pages in order", whole, func(r *ram, root uint64) {
			r.place(root, 4, 0x1000, 1, 0x5000|0x37)
			r.place(root, 4, 0x2000, 1, 0x6000|0x37)
		}, "0x1000+0x2000 "},
		{"one page in three places", whole, func(r *ram, root uint64) {
			for _, gpa := range []uint64{0x1000, 0x2000, 0x9000} {
				r.place(root, 4, gpa, 1, 0x5000|0x37)
			}
		}, "0x1000+0x1000 "},
		{"memory that the host does not have", whole, func(r *ram, root uint64) {
			r.place(root, 4, 0, 3, 8*gib|0xb7)
			r.place(root, 4, gib, 3, 3*gib|0xb7)
		}, "0x40000000+0x40000000 "},
		{"a large page around a small one", whole, func(r *ram, root uint64) {
			r.place(root, 4, 0, 1, 0x201000|0x37)
			r.place(root, 4, 2<<20, 2, 2<<20|0xb7)
		}, "0x0+0x1000 0x200000+0x1000 0x202000+0x1fe000 "},
		{"a hole in the host's memory", []physmem.Range{{Addr: 0, Size: 0x1800}, {Addr: 0x3000, Size: 0x3000}}, func(r *ram, root uint64) {
			r.place(root, 4, 0x200000, 2, 0|0xb7)
		}, "0x200000+0x1000 0x203000+0x3000 "},
		{"256 TiB", []physmem.Range{{Addr: 0x7000, Size: 0x2000}}, func(r *ram, root uint64) {
			for i := range uint64(512) {
				for j := range uint64(512) {
					r.place(root, 4, i<<39|j<<30, 3, 0xb7)
				}
			}
		}, "0x7000+0x2000 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRAM()
			root := r.table()
			tt.ept(r, root)
			m, err := openPhysical(r, memoryConfig{EPTP: root | 0x1e})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for r := range m.once(physmem.With(r, slices.Values(tt.host))).Ranges() {
				got += fmt.Sprintf("%#x+%#x ", r.Addr, r.Size)
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
