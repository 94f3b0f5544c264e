package guest

import (
	hexes "encoding/hex"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// hpa is where a page of the guest is in the host; the process touches it.
func (v *testVM) hpa(gpa uint64) uint64 {
	v.fault(gpa&^(pageSize-1), pageSize, 1)
	m, err := NewProcess(v, v.cr3, 0).Translate(v.hva(gpa))
	if err != nil {
		panic(err)
	}
	return m.Phys + v.hva(gpa) - m.Addr
}

// guestMap maps gva to gpa in 4-level tables of the guest's, which go to its
// memory from next on.
func (v *testVM) guestMap(root uint64, next *uint64, gva, gpa uint64) {
	at := root
	for level := 4; ; level-- {
		slot := v.hpa(at + gva/x86.Cover(level)%x86.Entries*8)
		if level == 1 {
			v.put(slot, gpa|0x67)
			return
		}
		if v.word(slot) == 0 {
			v.hpa(*next)
			v.put(slot, *next|0x67)
			*next += pageSize
		}
		at = v.word(slot) & x86.AddrMask
	}
}

const guestRoot = 0x50000

// newShadowVM is a Linux-like guest of 16 MiB below and 16 MiB above 4 GiB, of
// whose pages some are in KVM's tables.
func newShadowVM() (*testVM, shadowMemory) {
	v := newTestVM()
	v.slot(0, 0x7f00_4000_0000, 16*mib)
	v.slot(4*gib, 0x7f00_6000_0000, 16*mib)
	next := uint64(0x80000)
	v.hpa(guestRoot)
	// KVM keeps the registers with their PCID.
	c := shadowMemory{paging{CR0: x86.CR0PG, CR3: v.table(), CR4: x86.CR4PAE, EFER: x86.EFERLMA},
		paging{CR0: x86.CR0PG, CR3: guestRoot | 6, CR4: x86.CR4PAE, EFER: x86.EFERLMA}, v.cr3, 0}
	use := func(gva, gpa uint64) {
		v.guestMap(guestRoot, &next, gva, gpa)
		v.place(c.Paging.CR3, 4, gva&(1<<48-1), 1, v.hpa(gpa)|0x67)
	}
	for i := range uint64(20) {
		use(0xffff_8880_0000_0000+i*0x31000, i*0x31000)       // the direct map
		use(0xffff_8881_0000_0000+i*0x41000, 4*gib+i*0x41000) // its second part
		use(0x40_0000+i*pageSize, 0x90_0000-i*3*pageSize)     // a process
	}
	// The tables of another process have the same upper half.
	for i := uint64(0); i < pageSize; i += 8 {
		v.put(v.hpa(0x60000+i), v.word(v.hpa(guestRoot+i)))
	}
	return v, c
}

func TestOpenShadow(t *testing.T) {
	v, c := newShadowVM()
	v.user(0x7e00_0000_0000, 0x40000, 1) // memory of the process's own
	m, err := openShadow(v, c)
	if err != nil {
		t.Fatal(err)
	}
	s := m.Slots()
	if len(s) != 2 || s[0].GPA != 0 || s[0].HVA != 0x7f00_4000_0000 || s[0].Size != 10*mib ||
		s[1].GPA != 4*gib || s[1].HVA != 0x7f00_6000_0000 || s[1].Size != 6*mib {
		t.Errorf("slots %#x", s)
	}
	for _, gpa := range []uint64{guestRoot, 0x60000, 0x90_0000, 4*gib + 19*0x41000} {
		if e, err := m.Translate(gpa); err != nil || e.Phys+gpa-e.Addr != v.hpa(gpa) {
			t.Errorf("%#x: %#x, %v, want %#x", gpa, e, err, v.hpa(gpa))
		}
	}
	if _, err := m.Translate(x86.EPTEnd); !errors.Is(err, ErrNotMapped) {
		t.Errorf("beyond all memory: %v", err)
	}
	// Virtual addresses, by KVM's tables and by the guest's own.
	want := v.hpa(0x90_0000 - 3*pageSize)
	v.put(want+8, 0x1122334455667788)
	p, q := make([]byte, 8), make([]byte, 8)
	if _, err := (virtualMemory{c.Paging, v}).ReadPhys(p, 0x40_1008); err != nil {
		t.Error(err)
	}
	if _, err := (virtualMemory{c.Guest, m}).ReadPhys(q, 0x40_1008); err != nil || string(p) != string(q) || p[0] != 0x88 {
		t.Errorf("%x by KVM's tables, %x by the guest's, %v", p, q, err)
	}
	if tally := m.Tally(); tally.EPT != 0 || tally.Process < 60*pageSize {
		t.Errorf("got %+v", tally)
	}

	// The CR3 of another process, and one that is no table's.
	for _, cr3 := range []uint64{0x60000, 0x61000, 0, 1<<64 - 1} {
		c := c
		c.Guest.CR3 = cr3
		m, err := openShadow(v, c)
		if cr3 == 0x60000 { // as good: its upper half is that of all
			if err != nil || m.Slots()[0].HVA != 0x7f00_4000_0000 {
				t.Errorf("CR3 %#x: %v", cr3, err)
			}
			continue
		}
		if m != nil || err != ErrNoEPT {
			t.Errorf("CR3 %#x: %#x, %v", cr3, m.Slots(), err)
		}
	}
}

// Paging that the guest has not turned on: KVM's tables have GPAs, in PAE form.
func TestOpenShadowRealMode(t *testing.T) {
	v := newTestVM()
	v.slot(0, 0x7f00_4000_0000, 2*mib)
	root, dir := v.table(), v.table()
	v.put(root, dir|1)
	v.put(root+32, 0xffff_ffff_ffff_ffff) // not one of the four
	for _, gpa := range []uint64{0x6000, 0x7000} {
		v.place(dir, 2, gpa, 1, v.hpa(gpa)|0x67)
	}
	v.place(dir, 2, 0xb8000, 1, 0xf_f000_000b_8001) // MMIO
	v.fault(0x5000, 0x1000, 1)
	m, err := openShadow(v, shadowMemory{Paging: paging{CR0: x86.CR0PG, CR3: root, CR4: x86.CR4PAE}, HostCR3: v.cr3})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Tally(), (Tally{EPT: 2 * pageSize, Process: pageSize, MMIO: pageSize}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s := m.Slots(); len(s) != 1 || s[0].HVA != 0x7f00_4000_0000 {
		t.Errorf("slots %#x", s)
	}
}

// under is a ram before another memory.
type under struct {
	*ram
	below physmem.Reader
}

func (u under) ReadPhys(p []byte, addr uint64) (int, error) {
	if _, ok := u.Pages[addr/pageSize]; ok {
		return u.ram.ReadPhys(p, addr)
	}
	return u.below.ReadPhys(p, addr)
}

// A real dump, with the guests' own tables and those of their processes. KVM's
// were trimmed away: they are made anew, for the pages that the guests' code
// uses.
func TestOpenShadowReal(t *testing.T) {
	core := openCore(t, "vmx/penryn-no-ept/mini")
	for _, k := range loadKnown(t, "penryn-no-ept") {
		t.Run(k.Guest, func(t *testing.T) {
			host := under{newRAM(), core}
			host.next = 0x40_0000_0000
			c := shadowMemory{
				Paging:  paging{CR0: k.Fields["GUEST_CR0"], CR3: host.table(), CR4: k.Fields["GUEST_CR4"]},
				HostCR3: k.Fields["HOST_CR3"], HostCR4: k.Fields["HOST_CR4"],
			}
			root, level := c.Paging.CR3, 3
			used := []uint64{0x6000, 0x7000}
			if k.Expected.CR3 != "" { // all but the one in real mode
				c.Paging.EFER, level = x86.EFERLMA, 4
				c.Guest = paging{CR0: k.Fields["CR0_READ_SHADOW"], CR3: hex(t, k.Expected.CR3), CR4: k.Fields["CR4_READ_SHADOW"], EFER: x86.EFERLMA}
				used = []uint64{0x8000, 0x9000, hex(t, k.Expected.CodeGPA), hex(t, k.Expected.RSP) &^ (pageSize - 1)}
			}
			hva := hex(t, k.Expected.HVA)
			for _, gpa := range used {
				m, err := NewProcess(core, c.HostCR3, c.HostCR4).Translate(hva + gpa)
				if err != nil {
					t.Fatal(err)
				}
				host.place(root, level, gpa, 1, m.Phys+(hva+gpa-m.Addr)|0x67)
			}
			m, err := openShadow(host, c)
			if err != nil {
				t.Fatal(err)
			}
			if s := m.Slots(); len(s) != 1 || s[0].GPA != 0 || s[0].HVA != hva || s[0].Size != 2*mib {
				t.Errorf("slots %#x, want one of 2 MiB from 0 to %#x", s, hva)
			}
			tally := m.Tally()
			if got, want := tally.EPT+tally.Process, map[byte]uint64{'A': 8, 'B': 512, 'C': 10, 'D': 5}[k.Guest[0]]*pageSize; got != want {
				t.Errorf("%d bytes, want %d", got, want)
			}
			code := make([]byte, len(k.Expected.Code)/2)
			if _, err := m.ReadPhys(code, hex(t, k.Expected.CodeGPA)); err != nil || hexes.EncodeToString(code) != k.Expected.Code {
				t.Errorf("code %x, %v, want %s", code, err, k.Expected.Code)
			}
			// Without them, as the dump is, there is nothing to prove it by.
			if m, err := openShadow(core, c); m != nil || err != ErrNoEPT {
				t.Errorf("without KVM's tables: %v", err)
			}
		})
	}
}

func FuzzOpenShadow(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(90), uint64(x86.CR4PAE), uint64(x86.EFERLMA), uint64(0x1000), uint64(0x2000), uint64(0x1000))
	f.Add(uint64(2), uint8(15), uint8(40), uint64(x86.CR4PAE), uint64(0), uint64(0x1000), uint64(0x2000), uint64(0x1000))
	f.Add(uint64(3), uint8(15), uint8(200), uint64(x86.CR4PAE|x86.CR4LA57), uint64(x86.EFERLMA), uint64(0x1000), uint64(0), uint64(0x1000))
	f.Add(uint64(0), uint8(2), uint8(90), uint64(99), uint64(1079), uint64(4211), uint64(8231), uint64(4096)) // took long
	f.Add(uint64(0), uint8(8), uint8(5), uint64(32), uint64(789), uint64(4164), uint64(8200), uint64(4084))   // took longer
	f.Fuzz(func(t *testing.T, seed uint64, pages, rare uint8, cr4, efer, cr3, guestCR3, hostCR3 uint64) {
		p := paging{CR0: x86.CR0PG, CR3: cr3, CR4: cr4, EFER: efer}
		g := p
		g.CR3 = guestCR3
		if seed&1 != 0 {
			g.CR0 = 0
		}
		m, err := openShadow(newNoise(seed, pages, rare), shadowMemory{p, g, hostCR3, cr4})
		if (m == nil) != (err == ErrNoEPT) {
			t.Fatalf("%v with %v", m, err)
		}
		if m != nil {
			m.Tally()
		}
	})
}
