package guest

import (
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
)

func TestProcessTranslate(t *testing.T) {
	const hva = 0x7f10_e19e_f000
	const inverted = x86.AddrMask // the bits of an address that L1TF has inverted
	for _, tt := range []struct {
		name  string
		level int
		entry uint64
		phys  uint64 // of hva
		size  uint64
		err   error
	}{
		{"anonymous page", 1, 0x800000001e55f867, 0x1e55f000, 4 << 10, nil},
		{"zero page: read-only, special", 1, 0x8000000003a6b225, 0x3a6b000, 4 << 10, nil},
		{"protection key", 1, 5<<59 | 0x1e55f867, 0x1e55f000, 4 << 10, nil},
		{"2 MiB", 2, 0x80000000068008e7, 0x69ef000, 2 << 20, nil},
		{"2 MiB, PAT in bit 12", 2, 0x80000000068018e7, 0x69ef000, 2 << 20, nil},
		{"1 GiB", 3, 0x80000000800008e7, 0xa19ef000, 1 << 30, nil},
		{"PROT_NONE since 4.19, inverted", 1, 0x1e55f960&^1 ^ inverted, 0x1e55f000, 4 << 10, nil},
		{"PROT_NONE before", 1, 0x1e55f960, 0x1e55f000, 4 << 10, nil},
		{"2 MiB with NUMA hinting, inverted", 2, 0x68009e6 ^ inverted, 0x69ef000, 2 << 20, nil},
		{"2 MiB being split", 2, 0x68008e6 ^ inverted, 0x69ef000, 2 << 20, nil},
		{"never touched", 1, 0, 0, 4 << 10, ErrNotMapped},
		{"a Xeon Phi's stray A and D", 1, 0x60, 0, 4 << 10, ErrNotMapped},
		{"swapped out", 1, 0x0fffffffff_e1a600, 0, 4 << 10, ErrSwapped},
		{"2 MiB on its way", 2, 0x77ffffffffe1a600, 0, 2 << 20, ErrSwapped},
		{"512 GiB", 4, 0xe7, 0, 512 << 30, ErrReserved},
		{"table beyond memory", 2, 0x7f_0000_0067, 0, 2 << 20, errNoRAM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, levels := range []int{4, 5} {
				r := newRAM()
				root := r.table()
				r.place(root, levels, hva, tt.level, tt.entry)
				// With page-table isolation the highest entries have NX set.
				slot := root + hva/x86.Cover(levels)%x86.Entries*8
				if tt.level != levels {
					r.put(slot, r.word(slot)|1<<63)
				}
				p := NewProcess(r, root|0x005, uint64(levels-4)*x86.CR4LA57) // PCID 5
				m, err := p.Translate(hva + 0x10)
				if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Fatalf("%d levels: got %v, want %v", levels, err, tt.err)
				}
				if m.Size != tt.size || m.Addr != hva&^(m.Size-1) || err == nil && m.Phys+hva-m.Addr != tt.phys {
					t.Errorf("%d levels: got %#x, want %#x, %#x bytes", levels, m, tt.phys, tt.size)
				}
			}
		})
	}
}

// The kernel's half is none of the process's.
func TestProcessUserHalf(t *testing.T) {
	r := newRAM()
	root := r.table()
	r.place(root, 4, 0x7fff_ffff_f000, 1, 0x5067)
	r.place(root, 4, 0x8000_0000_0000, 1, 0x6067)
	p := NewProcess(r, root, 0)
	n := 0
	for m, err := range p.Mappings() {
		if n++; err != nil || m.Addr != 0x7fff_ffff_f000 || m.Phys != 0x5000 {
			t.Errorf("got %#x, %v", m, err)
		}
	}
	if n != 1 {
		t.Errorf("%d mappings", n)
	}
	for _, hva := range []uint64{0x8000_0000_0000, 0xffff_8000_0000_0000, 1<<64 - 1} {
		if m, err := p.Translate(hva); err != ErrNotMapped || m.Addr > hva || hva-m.Addr >= m.Size {
			t.Errorf("%#x: %#x, %v", hva, m, err)
		}
	}
}
