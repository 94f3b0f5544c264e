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
	long := paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE, EFER: x86.EFERLMA}
	long5 := paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE | x86.CR4LA57, EFER: x86.EFERLMA}
	pae := paging{CR0: x86.CR0PG, CR3: root + 0x20, CR4: x86.CR4PAE}
	paeEPT := paging{CR0: x86.CR0PG, CR3: root + 0x20, CR4: x86.CR4PAE, HavePDPTE: true, PDPTE: [4]uint64{2: 0x20001}}
	legacy := paging{CR0: x86.CR0PG, CR3: root | 0x18}
	pse := paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PSE}
	for _, tt := range []struct {
		name   string
		paging paging
		gva    uint64
		walk   []uint64 // address and entry, in turns
		gpa    uint64
		size   uint64
		err    error
	}{
		{name: "real mode", paging: paging{}, gva: 0xffff7, gpa: 0xffff7, size: 4 << 30},
		{name: "no paging, beyond 4 GiB", paging: paging{}, gva: 1 << 32, err: ErrNotCanonical},
		{name: "CR4.PAE without CR0.PG", paging: paging{CR4: x86.CR4PAE, CR3: root}, gva: 0x1234, gpa: 0x1234, size: 4 << 30},

		{name: "4 levels, 4 KiB", paging: long, gva: 0xffff_8880_0580_0123, walk: []uint64{0x10888, 0x11067, 0x11000, 0x12067, 0x12160, 0x13067, 0x13000, 0x8000000005800163}, gpa: 0x5800123, size: 4 << 10},
		{name: "4 levels, PCID and LAM in CR3", paging: paging{CR0: x86.CR0PG, CR3: 3<<61 | root | 0xfff, CR4: x86.CR4PAE, EFER: x86.EFERLMA}, walk: []uint64{0x10000, 0x11067, 0x11000, 0xe7}, size: 1 << 30},
		{name: "2 MiB, PAT in bit 12", paging: long, gva: 0x40_1149, walk: []uint64{0x10000, 0x11067, 0x11000, 0x12067, 0x12010, 0x60010e7}, gpa: 0x6001149, size: 2 << 20},
		{name: "1 GiB", paging: long, gva: 0x7fff_ffff_f800, walk: []uint64{0x107f8, 0x11067, 0x11ff8, 0x1400000e7}, gpa: 0x17ffff800, size: 1 << 30},
		{name: "not canonical", paging: long, gva: 0x8000_0000_0000, err: ErrNotCanonical},
		{name: "PML4E not present", paging: long, walk: []uint64{0x10000, 0x11066}, err: ErrNotMapped},
		{name: "PTE not present", paging: long, walk: []uint64{0x10000, 0x11067, 0x11000, 0x12067, 0x12000, 0x13067, 0x13000, 0x5000}, err: ErrNotMapped},
		{name: "512 GiB", paging: long, walk: []uint64{0x10000, 0xe7}, err: ErrReserved},
		{name: "table beyond memory", paging: long, walk: []uint64{0x10000, 0x7f00000067}, err: errNoRAM},
		{name: "root that points to itself", paging: long, walk: []uint64{0x10000, 0x10067}, gpa: 0x10000, size: 4 << 10},

		{name: "5 levels", paging: long5, gva: 0xff11_0000_0000_0008, walk: []uint64{0x10888, 0x11067, 0x11000, 0x12067, 0x12000, 0x13067, 0x13000, 0xe7}, gpa: 8, size: 2 << 20},
		{name: "5 levels, not canonical", paging: long5, gva: 1 << 56, err: ErrNotCanonical},

		{name: "PAE, PDPTEs in memory", paging: pae, gva: 0xc0201004, walk: []uint64{0x10038, 0x20001, 0x20008, 0x21067, 0x21008, 0x8000000123456067}, gpa: 0x123456004, size: 4 << 10},
		{name: "PAE, 2 MiB", paging: pae, gva: 0xc0201004, walk: []uint64{0x10038, 0x20001, 0x20008, 0x1234000e7}, gpa: 0x123401004, size: 2 << 20},
		{name: "PAE, PDPTEs in the VMCS", paging: paeEPT, gva: 0x80201004, walk: []uint64{0x10030, 0x30001, 0x20008, 0x6000e7}, gpa: 0x601004, size: 2 << 20},
		{name: "PAE, PDPTE not present", paging: paeEPT, gva: 0x40000000, walk: []uint64{0x10028, 0x20001}, err: ErrNotMapped},
		{name: "PAE, beyond 4 GiB", paging: pae, gva: 1 << 32, err: ErrNotCanonical},

		{name: "32-bit, 4 KiB", paging: legacy, gva: 0xc0101234, walk: []uint64{0x10c00, 0x11067, 0x11404, 0x5037_067}, gpa: 0x5037234, size: 4 << 10},
		{name: "32-bit, PS without CR4.PSE", paging: legacy, gva: 0xc0101234, walk: []uint64{0x10c00, 0x110e7, 0x11404, 0x5037067}, gpa: 0x5037234, size: 4 << 10},
		{name: "PSE, 4 MiB", paging: pse, gva: 0xc0101234, walk: []uint64{0x10c00, 0x004000e7}, gpa: 0x501234, size: 4 << 20},
		{name: "PSE-36", paging: pse, gva: 0xc0101234, walk: []uint64{0x10c00, 0x005fe0e7}, gpa: 0xff_0050_1234, size: 4 << 20},
		{name: "PSE, 4 KiB", paging: pse, gva: 0xc0101234, walk: []uint64{0x10c00, 0x11067, 0x11404, 0x5037067}, gpa: 0x5037234, size: 4 << 10},
		{name: "KVM's identity map for vm86", paging: pse, gva: 0xffff0, walk: []uint64{0x10000, 0xe7}, gpa: 0xffff0, size: 4 << 20},
		{name: "32-bit, not present", paging: legacy, err: ErrNotMapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRAM()
			r.page(root)
			for i := 0; i < len(tt.walk); i += 2 {
				if m := tt.paging.mode(); m == paging32 {
					r.put32(tt.walk[i], uint32(tt.walk[i+1]))
				} else {
					r.put(tt.walk[i], tt.walk[i+1])
				}
			}
			m, err := tt.paging.translate(r, tt.gva)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("%v: got %v, want %v", tt.paging.mode(), err, tt.err)
			}
			if err != nil {
				return
			}
			if gpa := m.Phys + tt.gva - m.Addr; gpa != tt.gpa || m.Size != tt.size {
				t.Errorf("%v: %#x, in %#x bytes, want %#x, %#x", tt.paging.mode(), gpa, m.Size, tt.gpa, tt.size)
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
	v := virtualMemory{paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE, EFER: x86.EFERLMA}, r}
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
		mode        pagingMode
		cr3         uint64
	}{
		{"hsw-default", "A.0", nil, paging4, 0x1000},
		{"hsw-default", "D.0", nil, noPaging, 0},
		{"hsw-default", "D.0", map[string]uint64{"GUEST_CR0": 0x80010031, "GUEST_CR3": 0xfffbc000, "GUEST_CR4": 0x2011}, noPaging, 0},
		{"penryn-no-ept", "A.0", nil, paging4, 0x1f332000},   // KVM's tables
		{"penryn-no-ept", "D.0", nil, pagingPAE, 0x1f3bd000}, // likewise, though it is in real mode
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
			if p := pagingOf(v); p.mode() != tt.mode || p.CR3 != tt.cr3 {
				t.Errorf("%s, guest %s: %v with CR3 %#x, want %v with %#x", tt.core, tt.guest, p.mode(), p.CR3, tt.mode, tt.cr3)
			}
		}
	}
}

// TestVirtualByRegisters: without a VMCS the registers tell the paging, and
// those that are not known do not: nothing is read at the wrong place.
func TestVirtualByRegisters(t *testing.T) {
	known := func(x uint64) Register { return Register{x, FromKVM} }
	const paged, real = x86.CR0PG | x86.CR0PE, 0
	for _, tt := range []struct {
		name string
		regs *Registers
		want bool
	}{
		{"no registers", nil, false},
		{"none known, as if they are encrypted", &Registers{}, false},
		{"CR0 alone", &Registers{CR0: known(paged)}, false},
		{"without CR4", &Registers{CR0: known(paged), CR3: known(0x1000)}, false},
		{"all", &Registers{CR0: known(paged), CR3: known(0x1000), CR4: known(0)}, true},
		{"paging is off", &Registers{CR0: known(real)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Machine{FoundBy: FoundByKVM, listed: true, outer: nothing{}}
			if _, err := m.Virtual(&VCPU{Regs: tt.regs}); (err == nil) != tt.want {
				t.Errorf("%v", err)
			}
		})
	}
}
