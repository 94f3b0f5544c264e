package guest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

func TestPagingTranslate(t *testing.T) {
	const root = 0x10000
	long := Paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE, EFER: x86.EFERLMA}
	long5 := Paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE | x86.CR4LA57, EFER: x86.EFERLMA}
	pae := Paging{CR0: x86.CR0PG, CR3: root + 0x20, CR4: x86.CR4PAE}
	paeEPT := Paging{CR0: x86.CR0PG, CR3: root + 0x20, CR4: x86.CR4PAE, HavePDPTE: true, PDPTE: [4]uint64{2: 0x20001}}
	legacy := Paging{CR0: x86.CR0PG, CR3: root | 0x18}
	pse := Paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PSE}
	for _, tt := range []struct {
		name   string
		paging Paging
		gva    uint64
		walk   []uint64 // address and entry, in turns
		gpa    uint64
		size   uint64
		err    error
	}{
		{"real mode", Paging{}, 0xffff7, nil, 0xffff7, 4 << 30, nil},
		{"no paging, beyond 4 GiB", Paging{}, 1 << 32, nil, 0, 0, ErrNotCanonical},
		{"CR4.PAE without CR0.PG", Paging{CR4: x86.CR4PAE, CR3: root}, 0x1234, nil, 0x1234, 4 << 30, nil},

		{"4 levels, 4 KiB", long, 0xffff_8880_0580_0123, []uint64{0x10888, 0x11067, 0x11000, 0x12067, 0x12160, 0x13067, 0x13000, 0x8000000005800163},
			0x5800123, 4 << 10, nil},
		{"4 levels, PCID and LAM in CR3", Paging{CR0: x86.CR0PG, CR3: 3<<61 | root | 0xfff, CR4: x86.CR4PAE, EFER: x86.EFERLMA}, 0,
			[]uint64{0x10000, 0x11067, 0x11000, 0xe7}, 0, 1 << 30, nil},
		{"2 MiB, PAT in bit 12", long, 0x40_1149, []uint64{0x10000, 0x11067, 0x11000, 0x12067, 0x12010, 0x60010e7}, 0x6001149, 2 << 20, nil},
		{"1 GiB", long, 0x7fff_ffff_f800, []uint64{0x107f8, 0x11067, 0x11ff8, 0x1400000e7}, 0x17ffff800, 1 << 30, nil},
		{"not canonical", long, 0x8000_0000_0000, nil, 0, 0, ErrNotCanonical},
		{"PML4E not present", long, 0, []uint64{0x10000, 0x11066}, 0, 0, ErrNotMapped},
		{"PTE not present", long, 0, []uint64{0x10000, 0x11067, 0x11000, 0x12067, 0x12000, 0x13067, 0x13000, 0x5000}, 0, 0, ErrNotMapped},
		{"512 GiB", long, 0, []uint64{0x10000, 0xe7}, 0, 0, ErrReserved},
		{"table beyond memory", long, 0, []uint64{0x10000, 0x7f00000067}, 0, 0, errNoRAM},
		{"root that points to itself", long, 0, []uint64{0x10000, 0x10067}, 0x10000, 4 << 10, nil},

		{"5 levels", long5, 0xff11_0000_0000_0008, []uint64{0x10888, 0x11067, 0x11000, 0x12067, 0x12000, 0x13067, 0x13000, 0xe7}, 8, 2 << 20, nil},
		{"5 levels, not canonical", long5, 1 << 56, nil, 0, 0, ErrNotCanonical},

		{"PAE, PDPTEs in memory", pae, 0xc0201004, []uint64{0x10038, 0x20001, 0x20008, 0x21067, 0x21008, 0x8000000123456067}, 0x123456004, 4 << 10, nil},
		{"PAE, 2 MiB", pae, 0xc0201004, []uint64{0x10038, 0x20001, 0x20008, 0x1234000e7}, 0x123401004, 2 << 20, nil},
		{"PAE, PDPTEs in the VMCS", paeEPT, 0x80201004, []uint64{0x10030, 0x30001, 0x20008, 0x6000e7}, 0x601004, 2 << 20, nil},
		{"PAE, PDPTE not present", paeEPT, 0x40000000, []uint64{0x10028, 0x20001}, 0, 0, ErrNotMapped},
		{"PAE, beyond 4 GiB", pae, 1 << 32, nil, 0, 0, ErrNotCanonical},

		{"32-bit, 4 KiB", legacy, 0xc0101234, []uint64{0x10c00, 0x11067, 0x11404, 0x5037_067}, 0x5037234, 4 << 10, nil},
		{"32-bit, PS without CR4.PSE", legacy, 0xc0101234, []uint64{0x10c00, 0x110e7, 0x11404, 0x5037067}, 0x5037234, 4 << 10, nil},
		{"PSE, 4 MiB", pse, 0xc0101234, []uint64{0x10c00, 0x004000e7}, 0x501234, 4 << 20, nil},
		{"PSE-36", pse, 0xc0101234, []uint64{0x10c00, 0x005fe0e7}, 0xff_0050_1234, 4 << 20, nil},
		{"PSE, 4 KiB", pse, 0xc0101234, []uint64{0x10c00, 0x11067, 0x11404, 0x5037067}, 0x5037234, 4 << 10, nil},
		{"KVM's identity map for vm86", pse, 0xffff0, []uint64{0x10000, 0xe7}, 0xffff0, 4 << 20, nil},
		{"32-bit, not present", legacy, 0, nil, 0, 0, ErrNotMapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRAM()
			r.page(root)
			for i := 0; i < len(tt.walk); i += 2 {
				if m := tt.paging.Mode(); m == Paging32 {
					r.put32(tt.walk[i], uint32(tt.walk[i+1]))
				} else {
					r.put(tt.walk[i], tt.walk[i+1])
				}
			}
			m, err := tt.paging.Translate(r, tt.gva)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("%v: got %v, want %v", tt.paging.Mode(), err, tt.err)
			}
			if err != nil {
				return
			}
			if gpa := m.Phys + tt.gva - m.Addr; gpa != tt.gpa || m.Size != tt.size {
				t.Errorf("%v: %#x, in %#x bytes, want %#x, %#x", tt.paging.Mode(), gpa, m.Size, tt.gpa, tt.size)
			}
		})
	}
}

// A read goes over pages that lie apart, and stops where nothing is mapped.
func TestVirtual(t *testing.T) {
	r := newRAM()
	root := r.table()
	r.place(root, 4, 0x3ff000, 1, 0x5067)
	r.place(root, 4, 0x400000, 1, 0x3067)
	copy(r.page(0x5000)[0xff8:], "straddle")
	copy(r.page(0x3000), "s pages")
	v := Virtual{Paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE, EFER: x86.EFERLMA}, r}
	p := make([]byte, 15)
	if n, err := v.ReadPhys(p, 0x3ffff8); n != len(p) || err != nil || string(p) != "straddles pages" {
		t.Errorf("read %d bytes, %v: %q", n, err, p)
	}
	p = make([]byte, 2*pageSize)
	n, err := v.ReadPhys(p, 0x3ffff8)
	if n != 8+pageSize || !errors.Is(err, ErrNotMapped) || !bytes.HasPrefix(p, []byte("straddles pages")) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// The paging of a vCPU is that of its VMCS, or none, if the guest knows none.
func TestPagingOf(t *testing.T) {
	for _, tt := range []struct {
		core, guest string
		patch       map[string]uint64
		mode        Mode
		cr3         uint64
	}{
		{"hsw-default", "A.0", nil, Paging4, 0x1000},
		{"hsw-default", "D.0", nil, NoPaging, 0},
		{"hsw-default", "D.0", map[string]uint64{"GUEST_CR0": 0x80010031, "GUEST_CR3": 0xfffbc000, "GUEST_CR4": 0x2011}, NoPaging, 0},
		{"penryn-no-ept", "A.0", nil, Paging4, 0x1f332000},   // KVM's tables
		{"penryn-no-ept", "D.0", nil, PagingPAE, 0x1f3bd000}, // likewise, though it is in real mode
	} {
		core := openCore(t, "vmx/"+tt.core+"/mini")
		for _, k := range loadKnown(t, tt.core) {
			if k.Guest != tt.guest {
				continue
			}
			v := &vmcs.VMCS{Addr: k.PA, Page: make([]byte, vmcs.PageSize), Layout: noteLayout(t, "../testdata/cores/vmx/"+tt.core)}
			if _, err := core.ReadPhys(v.Page, k.PA); err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.patch {
				e, _ := v.Layout.Lookup(name)
				binary.LittleEndian.PutUint64(v.Page[e.Offset:], value)
			}
			if p := PagingOf(v); p.Mode() != tt.mode || p.CR3 != tt.cr3 {
				t.Errorf("%s, guest %s: %v with CR3 %#x, want %v with %#x", tt.core, tt.guest, p.Mode(), p.CR3, tt.mode, tt.cr3)
			}
		}
	}
}
