package guest

import (
	"slices"
	"testing"

	"vmcsnote/internal/x86"
)

// A testVM is a guest and the process that runs it, as KVM and Linux would
// have them in their tables.
type testVM struct {
	*ram
	ept, cr3 uint64 // roots
	frame    uint64 // the host page to give out next
	zero     uint64 // the zero page
	slots    []Slot
}

func newTestVM() *testVM {
	r := newRAM()
	return &testVM{ram: r, ept: r.table(), cr3: r.table(), frame: 0x40_0000_0000, zero: 0x3fff_f000}
}

func (v *testVM) open(t testing.TB) *Physical {
	t.Helper()
	m, err := openPhysical(v, memoryConfig{EPTP: v.ept | 0x5e, HostCR3: v.cr3 | 0x004})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// slot returns the guest a memory slot.
func (v *testVM) slot(gpa, hva, size uint64) {
	v.slots = append(v.slots, Slot{GPA: gpa, HVA: hva, Size: size})
}

func (v *testVM) hva(gpa uint64) uint64 {
	for _, s := range v.slots {
		if gpa-s.GPA < s.Size {
			return gpa - s.GPA + s.HVA
		}
	}
	panic("no slot there")
}

// fault has the process touch size bytes from gpa on, in pages of a level.
func (v *testVM) fault(gpa, size uint64, level int) {
	v.user(v.hva(gpa), size, level)
}

func (v *testVM) user(hva, size uint64, level int) {
	for done := uint64(0); done < size; done += x86.Cover(level) {
		if _, err := NewProcess(v, v.cr3, 0).Translate(hva + done); err == nil {
			continue
		}
		entry := uint64(0x8000000000000867)
		if level > 1 {
			entry |= x86.Large
			v.frame = (v.frame + x86.Cover(level) - 1) &^ (x86.Cover(level) - 1)
		}
		v.place(v.cr3, 4, hva+done, level, v.frame|entry)
		v.frame += x86.Cover(level) + pageSize // no two adjacent, unless they are the same entry's
	}
}

// touch has the guest touch size bytes from gpa on, in EPT's pages of a level.
func (v *testVM) touch(gpa, size uint64, level int) {
	for done := uint64(0); done < size; done += x86.Cover(level) {
		m, err := NewProcess(v, v.cr3, 0).Translate(v.hva(gpa + done))
		if err != nil {
			v.fault(gpa+done, x86.Cover(level), level)
			m, _ = NewProcess(v, v.cr3, 0).Translate(v.hva(gpa + done))
		}
		entry := m.Phys + v.hva(gpa+done) - m.Addr | 0x600000000000b37
		if m.Entry&x86.Write == 0 {
			entry &^= x86.EPTWrite
		}
		if level > 1 {
			entry |= x86.Large
		}
		v.place(v.ept, 4, gpa+done, level, entry)
	}
}

// read has the guest read pages that were never written to: one zero page.
func (v *testVM) read(gpa, size uint64) {
	for done := uint64(0); done < size; done += pageSize {
		v.place(v.cr3, 4, v.hva(gpa+done), 1, v.zero|0x8000000000000225)
	}
	v.touch(gpa, size, 1)
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

func TestSlots(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(*testVM)
		want []Slot // Pages aside
	}{
		{"never entered", func(v *testVM) {
			v.slot(0, 0x7f00_0000_0000, 2*mib)
			v.fault(0, 0x5000, 1)
		}, nil},
		{"two pages of real mode", func(v *testVM) {
			v.slot(0, 0x7f00_0000_0000, 2*mib)
			v.touch(0x6000, 0x2000, 1)
			v.fault(0x5000, 0x5000, 1)
		}, []Slot{{GPA: 0, HVA: 0x7f00_0000_0000, Size: 2 * mib}}},
		{"a slot that is not aligned: no further than what is certain", func(v *testVM) {
			v.slot(0x100000, 0x7f00_0000_3000, 2*mib)
			v.touch(0x105000, 0x2000, 1)
			v.touch(0x1ff000, 0x1000, 1)
		}, []Slot{{GPA: 0x105000, HVA: 0x7f00_0000_8000, Size: 0xfb000}}},
		{"but low memory begins at 0", func(v *testVM) {
			v.slot(0, 0x7f00_0000_3000, 2*mib)
			v.touch(0x5000, 0x2000, 1)
		}, []Slot{{GPA: 0, HVA: 0x7f00_0000_3000, Size: 0x7000}}},
		{"unlike a ROM", func(v *testVM) {
			v.slot(0xe0000, 0x7f00_0000_3000, 128*kib)
			v.touch(0xf0000, 0x10000, 1)
		}, []Slot{{GPA: 0xf0000, HVA: 0x7f00_0001_3000, Size: 0x10000}}},
		{"and not below HVA 0", func(v *testVM) {
			v.slot(0x3000, 0, 2*mib)
			v.touch(0x5000, 0x2000, 1)
		}, []Slot{{GPA: 0x3000, HVA: 0, Size: 0x4000}}},
		{"QEMU: RAM on both sides of the hole below 4 GiB, VGA, ROM and its alias", func(v *testVM) {
			const ram = 0x7f12_3440_0000
			v.slot(0, ram, 0xa0000)
			v.slot(0xa0000, 0x7f00_1000_0000, 0x10000)
			v.slot(0xc0000, ram+0xc0000, 3*gib-0xc0000)
			v.slot(0xfd00_0000, 0x7f00_1000_0000, 16*mib)
			v.slot(0xfffc_0000, 0x7f00_2000_0000, 256*kib)
			v.slot(4*gib, ram+3*gib, gib)
			v.touch(0x1000, 0x9e000, 1)
			v.touch(0xa3000, 0xd000, 1)
			v.touch(0xc0000, 0x240000, 1)
			v.touch(3*gib-4*mib, 0x1ff000, 1)
			v.touch(0xfd00_0000, 0x3000, 1)
			v.touch(0xfffe_0000, 0x20000, 1)
			v.touch(4*gib+0x2000, 0x1000, 1)
			v.fault(4*gib, 0x2000, 1)
		}, []Slot{
			{GPA: 0, HVA: 0x7f12_3440_0000, Size: 0xa0000},
			{GPA: 0xa3000, HVA: 0x7f00_1000_3000, Size: 0x1d000},
			{GPA: 0xc0000, HVA: 0x7f12_344c_0000, Size: 3*gib - 2*mib - 0xc0000},
			{GPA: 0xfd00_0000, HVA: 0x7f00_1000_0000, Size: 0x3000},
			{GPA: 0xfffc_0000, HVA: 0x7f00_2000_0000, Size: 256 * kib},
			{GPA: 4 * gib, HVA: 0x7f12_f440_0000, Size: 2 * mib},
		}},
		{"microvm after EPT was dropped: RAM below the BIOS hangs in the process alone", func(v *testVM) {
			const ram = 0x7f12_3440_0000
			v.slot(0, ram, 0xe0000)
			v.slot(0xe0000, 0x7f00_2000_0000, 128*kib)
			v.slot(0x100000, ram+0x100000, 256*mib-0x100000)
			v.fault(0x1000, 0x13000, 1)
			v.fault(3*mib, 0x5000, 1)
			v.touch(0xf0000, 0x10000, 1)
			v.touch(16*mib, 0x4000, 1)
		}, []Slot{
			{GPA: 0, HVA: 0x7f12_3440_0000, Size: 0xa0000},
			{GPA: 0xe0000, HVA: 0x7f00_2000_0000, Size: 128 * kib},
			{GPA: 0x100000, HVA: 0x7f12_3450_0000, Size: 17 * mib},
		}},
		{"the same, but the process has no pages there: it begins elsewhere", func(v *testVM) {
			v.slot(16*mib, 0x7f12_3540_0000, 240*mib)
			v.touch(17*mib, 0x4000, 1)
		}, []Slot{{GPA: 16 * mib, HVA: 0x7f12_3540_0000, Size: 2 * mib}}},
		{"the same, but what the process has there goes on below", func(v *testVM) {
			v.slot(16*mib, 0x7f12_3540_0000, 240*mib)
			v.user(0x7f12_3440_0000-8*kib, 0x5000, 1)
			v.touch(17*mib, 0x4000, 1)
		}, []Slot{{GPA: 16 * mib, HVA: 0x7f12_3540_0000, Size: 2 * mib}}},
		{"hugetlbfs: all allocated, little touched", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, gib)
			v.fault(0, gib, 2)
			v.user(0x7f00_0000_0000, 0x1000, 1)
			v.user(0x7f00_8000_0000, 0x5000, 1) // somebody else's, directly above
			v.touch(64*mib, 2*mib, 2)
		}, []Slot{{GPA: 0, HVA: 0x7f00_4000_0000, Size: gib}}},
		{"hugetlbfs with a hole below 4 GiB, little touched", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*gib)
			v.slot(4*gib, 0x7f00_4000_0000+2*gib, 2*gib)
			v.fault(0, 2*gib, 3)
			v.fault(4*gib, 2*gib, 3)
			v.touch(64*mib, 2*mib, 2)
			v.touch(5*gib, 2*mib, 2)
		}, []Slot{
			{GPA: 0, HVA: 0x7f00_4000_0000, Size: 2 * gib},
			{GPA: 4 * gib, HVA: 0x7f00_4000_0000 + 2*gib, Size: 2 * gib},
		}},
		{"the process's addresses below the guest's", func(v *testVM) {
			v.slot(0x40_0000_0000, 0x1000_0000, 4*mib)
			v.slot(0, 0x2000_0000, 4*mib)
			v.touch(0x40_0010_0000, 0x1000, 1)
			v.touch(0x10_0000, 0x1000, 1)
		}, []Slot{
			{GPA: 0, HVA: 0x2000_0000, Size: 2 * mib},
			{GPA: 0x40_0000_0000, HVA: 0x1000_0000, Size: 2 * mib},
		}},
		{"2 MiB in the process, 4 KiB in EPT (dirty logging)", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 8*mib)
			v.fault(0, 8*mib, 2)
			v.touch(0x200000, 0x3000, 1)
		}, []Slot{{GPA: 0, HVA: 0x7f00_4000_0000, Size: 8 * mib}}},
		{"4 KiB in the process, 2 MiB in EPT (being split)", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 4*mib)
			v.place(v.ept, 4, 0x200000, 2, 0x20000000|0xbf7)
			for i := range uint64(x86.Entries) {
				v.place(v.cr3, 4, 0x7f00_4020_0000+i*pageSize, 1, 0x20000000+i*pageSize|0x867)
			}
		}, []Slot{{GPA: 0x200000, HVA: 0x7f00_4020_0000, Size: 2 * mib}}},
		{"1 GiB pages", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*gib)
			v.touch(0, gib, 3)
			v.fault(gib, gib, 3)
		}, []Slot{{GPA: 0, HVA: 0x7f00_4000_0000, Size: 2 * gib}}},
		{"90 zero pages, before, between and after", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*mib)
			v.slot(0x10_0000_0000, 0x7f00_5000_0000, 2*mib)
			v.read(0, 30*pageSize)
			v.touch(0x50000, 0x3000, 1)
			v.read(0x10_0000_0000, 30*pageSize)
			v.touch(0x10_0005_0000, 0x3000, 1)
			v.read(0x10_0006_0000, 30*pageSize)
		}, []Slot{
			{GPA: 0, HVA: 0x7f00_4000_0000, Size: 2 * mib},
			{GPA: 0x10_0000_0000, HVA: 0x7f00_5000_0000, Size: 2 * mib},
		}},
		{"nothing but zero pages", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*mib)
			v.read(0, 30*pageSize)
		}, nil},
		{"the process has the page in no place", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*mib)
			v.touch(0, 0x1000, 1)
			v.place(v.cr3, 4, 0x7f00_4000_0000, 1, 0)
		}, nil},
		{"somebody else's memory in the gap between two slots stays out", func(v *testVM) {
			v.slot(0, 0x7f00_4000_0000, 2*mib)
			v.slot(2*mib, 0x7f00_4100_0000, 2*mib)
			v.touch(0, 2*mib, 1)
			v.touch(2*mib, 2*mib, 1)
			v.user(0x7f00_4020_0000, 14*mib, 1)
		}, []Slot{
			{GPA: 0, HVA: 0x7f00_4000_0000, Size: 2 * mib},
			{GPA: 2 * mib, HVA: 0x7f00_4100_0000, Size: 2 * mib},
		}},
		{"memory of a nested guest, scattered", func(v *testVM) {
			for i := range uint64(300) {
				v.slot(i*pageSize, 0x7f00_4000_0000+i*i*pageSize*2, pageSize)
				v.touch(i*pageSize, pageSize, 1)
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newTestVM()
			tt.make(v)
			m := v.open(t)
			got := slices.Clone(m.Slots())
			for i, s := range got {
				if s.Pages == 0 && s.GPA >= mib {
					t.Errorf("slot %#x out of nothing", s)
				}
				got[i].Pages = 0
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n\t%#x, want\n\t%#x", got, tt.want)
			}
		})
	}
}
