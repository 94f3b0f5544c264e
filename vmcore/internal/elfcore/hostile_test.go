package elfcore_test

import (
	"bytes"
	"debug/elf"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/physmap"
	"vmcsnote/vmcore/internal/plan"
)

// manyLoads is a core with as many PT_LOADs, made by load, and a file of size
// bytes.
func manyLoads(n int, size int64, load func(i int) elf.ProgHeader) *elfcore.ELF {
	c := &elfcore.ELF{Header: elfcore.Header{Layout: elfcore.Layout64}, Size: size, R: bytes.NewReader(make([]byte, size))}
	c.Progs = []elf.ProgHeader{{Type: elf.PT_NOTE, Off: 64}}
	for i := range n {
		c.Progs = append(c.Progs, load(i))
	}
	return c
}

// TestWhyNotIndexed: why memory is missing is told as the program headers tell
// it, without going through them again for each page.
func TestWhyNotIndexed(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := manyLoads(rng.IntN(8), 64, func(int) elf.ProgHeader {
			p := elf.ProgHeader{Type: elf.PT_LOAD, Off: 1 << 40, Paddr: rng.Uint64N(40), Filesz: rng.Uint64N(10), Memsz: rng.Uint64N(20)}
			if rng.IntN(4) == 0 {
				p.Paddr = -rng.Uint64N(30) // memory that would end beyond 2^64
			}
			return p
		})
		m := c.MapPhys()
		progs := c.Progs
		c.Progs = nil // not needed any more
		for _, at := range []uint64{0, 1, 5, 13, 21, 39, 45, 59, 1 << 63, ^uint64(30), ^uint64(9), ^uint64(1)} {
			want := plan.ErrNoMemory
			for _, p := range progs {
				switch {
				case p.Type != elf.PT_LOAD || at < p.Paddr:
				case at-p.Paddr < p.Filesz:
					want = plan.ErrTruncated
				case at-p.Paddr < p.Memsz && want == plan.ErrNoMemory:
					want = plan.ErrExcluded
				}
			}
			if got := m.WhyNot(at); !errors.Is(got, want) {
				t.Fatalf("%#x: %v, want %v; headers: %+v", at, got, want, progs)
			}
		}
	}
}

// TestSharedBytes: what goes through all memory looks at each byte of the file
// once, however many PT_LOADs have it; each can be read.
func TestSharedBytes(t *testing.T) {
	const n, size = 65_000, 1 << 20
	c := manyLoads(n, size, func(i int) elf.ProgHeader {
		// Each begins and ends elsewhere in the file.
		return elf.ProgHeader{Type: elf.PT_LOAD, Off: uint64(i % 4096), Paddr: uint64(i) << 32, Filesz: size - 4096, Memsz: size}
	})
	m := c.MapPhys()
	c.Phys = func() *physmap.Map { return m }
	var total uint64
	for r := range c.Ranges() {
		total += r.Size
	}
	if total != size-1 { // the first to the last offset that any of them has
		t.Errorf("%#x bytes of memory are gone through, of a file of %#x", total, size)
	}
	for _, addr := range []uint64{0, 1 << 32, (n - 1) << 32} {
		if k, err := c.ReadPhys(make([]byte, 4096), addr); k != 4096 || err != nil {
			t.Errorf("%#x: %d bytes, %v", addr, k, err)
		}
	}
	v := &elfcore.Verifier{C: c}
	v.Shared()
	if len(v.Found) != 1 || !strings.Contains(v.Found[0].Text, "share bytes of the file") {
		t.Errorf("verify finds %v", v.Found)
	}
}

// TestSameMemory: PT_LOADs for the same memory share bytes, and nothing is
// wrong with that.
func TestSameMemory(t *testing.T) {
	c := manyLoads(100, 1<<20, func(i int) elf.ProgHeader {
		return elf.ProgHeader{Type: elf.PT_LOAD, Off: uint64(i) * 512, Paddr: 0x1000 + uint64(i)*512, Filesz: 4096, Memsz: 4096}
	})
	m := c.MapPhys()
	c.Phys = func() *physmap.Map { return m }
	v := &elfcore.Verifier{C: c}
	v.Shared()
	if want := (physmem.Range{Addr: 0x1000, Size: 99*512 + 4096}); len(m.Once) != 1 || m.Once[0] != want || len(v.Found) > 0 {
		t.Errorf("ranges %v, want %v; verify finds %v", m.Once, want, v.Found)
	}
}

// TestFindingsAreFew: a fault in each of 65,000 program headers is ten lines
// and a number.
func TestFindingsAreFew(t *testing.T) {
	c := manyLoads(65_000, 1<<20, func(i int) elf.ProgHeader {
		return elf.ProgHeader{Type: elf.PT_LOAD, Off: 4096, Paddr: uint64(i) << 20, Filesz: 2, Memsz: uint64(i%2) * 8 / 7}
	})
	v := &elfcore.Verifier{C: c}
	v.Segments()
	if n := len(v.Found); n != plan.MaxOfKind+1 {
		t.Fatalf("%d findings", n)
	}
	if got, want := v.Found[plan.MaxOfKind].Text, "64990 more like this: phdr[1]: p_filesz 0x2 is more than p_memsz 0x0"; got != want {
		t.Errorf("the last is %q, want %q", got, want)
	}
}
