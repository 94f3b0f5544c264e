package guest

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/vmcs"
)

// noise is a memory of a few pages, filled with entries that point to its pages
// and a bit beyond: loops, shared tables, leaves at all levels, dead ends.
type noise struct {
	seed  uint64
	pages uint64
	rare  uint64 // one of so many entries is not 0
}

func (z noise) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		if at/pageSize >= z.pages {
			return n, errNoRAM
		}
		var word [8]byte
		if h := x86.Mix(z.seed ^ x86.Mix(at/8)); h%z.rare == 0 {
			entry := (h>>8%(z.pages+2))<<12 | h>>24&0xfff
			if h>>40&3 != 0 {
				entry |= link
			}
			if h>>42&7 == 0 {
				entry ^= x86.AddrMask // as for PROT_NONE
			}
			if h>>45&7 == 0 {
				entry = entry&^(1<<30-1) | entry&0xfff | x86.Large
			}
			binary.LittleEndian.PutUint64(word[:], entry)
		}
		n += copy(p[n:], word[at%8:])
	}
	return n, nil
}

func newNoise(seed uint64, pages, rare uint8) noise {
	return noise{seed, uint64(pages%16) + 1, uint64(rare) + 1}
}

// Whatever the tables hold, iterations end, are in order, and agree with
// translations.
func FuzzMemory(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(0), uint64(0x5e), uint64(0x1000), uint64(0))
	f.Add(uint64(2), uint8(15), uint8(3), uint64(0x66), uint64(0x2000), uint64(x86.CR4LA57))
	f.Add(uint64(3), uint8(2), uint8(50), uint64(0x105e), uint64(0x1000), uint64(0))
	f.Add(uint64(4), uint8(15), uint8(30), uint64(0x5e), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, seed uint64, pages, rare uint8, eptp, cr3, cr4 uint64) {
		m, err := openPhysical(newNoise(seed, pages, rare), memoryConfig{EPTP: eptp, HostCR3: cr3, HostCR4: cr4})
		if err != nil {
			if m != nil || !errors.Is(err, ErrBadEPTP) && !errors.Is(err, ErrNoEPT) {
				t.Fatalf("%v with %v", m, err)
			}
			return
		}
		end := uint64(0)
		for i, s := range m.Slots() {
			if s.GPA < end || s.Size == 0 || (s.GPA|s.HVA|s.Size)%pageSize != 0 || s.GPA+s.Size < s.GPA || s.Pages == 0 {
				t.Fatalf("slot %d %#x, the one before ends at %#x", i, s, end)
			}
			end = s.GPA + s.Size
		}
		n, total, end := 0, uint64(0), uint64(0)
		p := make([]byte, 16)
		for r := range m.Ranges() {
			addr, size := r.Addr, r.Size
			if addr < end || addr == end && n > 0 || size == 0 || (addr|size)%pageSize != 0 || addr+size < addr {
				t.Fatalf("range of %#x bytes from %#x, the one before ends at %#x", size, addr, end)
			}
			end = addr + size
			total += size
			if n++; n > 1000 {
				continue
			}
			if e, err := m.Translate(addr); err != nil || addr-e.Addr >= e.Size {
				t.Fatalf("%#x is in a range, but Translate gives %#x, %v", addr, e, err)
			}
			if n, err := m.ReadPhys(p, end-8); (n < len(p)) != (err != nil) {
				t.Fatalf("%d bytes read, %v", n, err)
			}
		}
		if tally := m.Tally(); tally.EPT+tally.Process != total {
			t.Errorf("%+v, the ranges have %#x bytes", tally, total)
		}
	})
}

// A walk gives what lookups give.
func FuzzWalk(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(0), true, true)
	f.Add(uint64(2), uint8(15), uint8(60), false, true)
	f.Add(uint64(3), uint8(3), uint8(7), true, false)
	f.Fuzz(func(t *testing.T, seed uint64, pages, rare uint8, five, process bool) {
		levels := 4
		if five {
			levels = 5
		}
		format := x86.EPT(levels, false)
		if process {
			format.Decode = linux.UserPages(4).Decode
		}
		tables := x86.NewTables(newNoise(seed, pages, rare), format, 0)
		end := uint64(0)
		n := 0
		for m, err := range tables.Mappings() {
			if m.Addr < end || m.Size == 0 || m.Addr%m.Size != 0 {
				t.Fatalf("%#x after %#x", m, end)
			}
			if end = m.Addr + m.Size; errors.Is(err, ErrTableAgain) {
				continue
			}
			if n++; n > 1000 {
				return
			}
			got, gotErr := tables.Translate(m.Addr + m.Size - 1)
			if got.Addr != m.Addr || got.Size != m.Size || got.Phys != m.Phys || (err == nil) != (gotErr == nil) {
				t.Fatalf("walk gives %#x, %v, lookup %#x, %v", m, err, got, gotErr)
			}
		}
	})
}

func FuzzPaging(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(0), uint64(x86.CR0PG), uint64(0x1000), uint64(x86.CR4PAE), uint64(x86.EFERLMA), uint64(0xffff_8880_0580_0123))
	f.Add(uint64(2), uint8(8), uint8(0), uint64(x86.CR0PG), uint64(0x1000), uint64(x86.CR4PAE|x86.CR4LA57), uint64(x86.EFERLMA), uint64(0xff11_0000_0000_0008))
	f.Add(uint64(3), uint8(8), uint8(0), uint64(x86.CR0PG), uint64(0x1020), uint64(x86.CR4PAE), uint64(0), uint64(0xc0101234))
	f.Add(uint64(4), uint8(8), uint8(0), uint64(x86.CR0PG), uint64(0x1000), uint64(x86.CR4PSE), uint64(0), uint64(0xc0101234))
	f.Add(uint64(5), uint8(8), uint8(0), uint64(0), uint64(0x1000), uint64(0), uint64(0), uint64(0xffff7))
	// No table at all, for an address in the upper half.
	f.Add(uint64(0), uint8(0), uint8(0), uint64(x86.CR0PG), uint64(0x1015), uint64(x86.CR4PAE|x86.CR4LA57), uint64(x86.EFERLMA), uint64(0xff11_0000_0000_0001))
	f.Fuzz(func(t *testing.T, seed uint64, pages, rare uint8, cr0, cr3, cr4, efer, gva uint64) {
		mem := newNoise(seed, pages, rare)
		p := paging{CR0: cr0, CR3: cr3, CR4: cr4, EFER: efer, HavePDPTE: seed&1 != 0, PDPTE: [4]uint64{seed, seed >> 1, seed >> 2, seed >> 3}}
		m, err := p.translate(mem, gva)
		switch {
		case err == nil && (gva-m.Addr >= m.Size || m.Size%pageSize != 0 || m.Phys%m.Size != 0 || m.Addr%m.Size != 0):
			t.Fatalf("%v: %#x is not in %#x", p.mode(), gva, m)
		case err != nil && !errors.Is(err, ErrNotCanonical) && gva-m.Addr >= m.Size:
			t.Fatalf("%#x is not in %#x, for which %v holds", gva, m, err)
		case errors.Is(err, ErrNotCanonical) == p.mode().canonical(gva):
			t.Fatalf("%v: %#x: %v", p.mode(), gva, err)
		}
		buf := make([]byte, 3*pageSize)
		if n, err := (virtualMemory{p, mem}).ReadPhys(buf, gva); (n < len(buf)) != (err != nil) {
			t.Fatalf("%d bytes, %v", n, err)
		}
	})
}

// Wherever a guest's slots are, what it has touched is in a slot with the right
// place in the process, zero pages aside.
func FuzzFindSlots(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		v := newTestVM()
		random := func(n uint64) uint64 { seed = x86.Mix(seed + 1); return seed % n }
		gpa, hva := uint64(0), 0x7f00_0000_0000+random(512)*pageSize
		for range random(6) + 1 {
			size := (random(1024) + 1) * pageSize
			v.slot(gpa, hva, size)
			gpa += size + random(2)*random(1024)*pageSize
			hva += size + random(2)*random(1024)*pageSize
		}
		var touched []uint64
		for _, s := range v.slots {
			for range random(30) {
				at := s.GPA + random(s.Size/pageSize)*pageSize
				switch random(4) {
				case 0:
					v.fault(at, pageSize, 1)
				case 1:
					v.read(at, pageSize)
				default:
					v.touch(at, pageSize, 1)
					touched = append(touched, at)
				}
			}
		}
		m := v.open(t)
		for _, at := range touched {
			user, err := NewProcess(v, v.cr3, 0).Translate(v.hva(at))
			if err != nil {
				t.Fatal(err)
			}
			if user.Phys == v.zero {
				continue // read after it was touched
			}
			if s, ok := m.slot(at); !ok || at < s.GPA || at-s.GPA+s.HVA != v.hva(at) {
				t.Fatalf("%#x is at %#x in the process, but in slot %#x", at, v.hva(at), s)
			}
		}
	})
}

// Whatever memory and VMCS hold, the search ends without a panic, and what it
// takes for known is in the memory.
func FuzzRegSearch(f *testing.F) {
	m := fakekvm.New()
	m.KernelGSBase(0)
	seed := append(append([]byte(nil), m.Pages[fakekvm.Array/pageSize]...), m.Pages[fakekvm.Pointer/pageSize]...)
	f.Add(seed, uint64(0x80050033), uint64(0x57f6002), uint64(0x170ef0), uint64(0x82a03e98))
	f.Add(seed[:100], uint64(0), uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, cr0, cr3, cr4, rsp uint64) {
		m := fakekvm.New()
		for i, c := range b[:min(len(b), 1<<16)] {
			at := fakekvm.Array&^(pageSize-1) + uint64(i)
			m.Page(at)[at%pageSize] = c
		}
		v := fakekvm.VMCS(fakekvm.VMCSAddr, map[string]uint64{"GUEST_CR0": cr0, "CR0_READ_SHADOW": cr0, "GUEST_CR3": cr3, "CR4_READ_SHADOW": cr4, "GUEST_RSP": rsp})
		all, err := findRegisters(context.Background(), infer.Search{Mem: m}, []*vmcs.VMCS{v, v})
		if err != nil {
			t.Fatal(err)
		}
		for _, regs := range all {
			if regs.GPR[RAX].Known() && regs.GPR[RAX].Value != m.Word(regs.Evidence.Array) {
				t.Errorf("%+v", regs)
			}
			PRStatus(1, regs)
			qemuState(regs)
		}
	})
}
