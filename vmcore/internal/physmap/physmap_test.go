package physmap

import (
	"bytes"
	"debug/elf"
	"math"
	"testing"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/plan"
)

// sparse maps n pages, every second of memory; the one after each is left out
// of the file.
func sparse(n int) *Map {
	file := make([]byte, 4096)
	progs := make([]elf.ProgHeader, n)
	for i := range progs {
		progs[i] = elf.ProgHeader{Type: elf.PT_LOAD, Paddr: uint64(i) * 0x3000, Filesz: 0x1000, Memsz: 0x2000}
	}
	return New(bytes.NewReader(file), int64(len(file)), progs)
}

// TestMissing: a page that is not there costs about the same, however many
// program headers there are.
func TestMissing(t *testing.T) {
	const asks = 1000
	// The fastest of some: the machine may be busy.
	took := func(m *Map) time.Duration {
		best := time.Duration(math.MaxInt64)
		for range 10 {
			begin := time.Now()
			for i := range uint64(asks) {
				at := i*7919%uint64(len(m.runs))*0x3000 + 0x1000
				_, err1 := m.ReadPhys(make([]byte, 8), at)
				_, err2 := m.ReadPhys(make([]byte, 8), at+0x1000)
				if !errors.Is(err1, plan.ErrExcluded) || !errors.Is(err2, plan.ErrNoMemory) {
					t.Fatalf("%#x: %v, %v", at, err1, err2)
				}
			}
			best = min(best, time.Since(begin))
		}
		return best
	}
	few, many := took(sparse(60)), took(sparse(60_000))
	t.Logf("%v of 60 program headers, %v of 60,000", few/asks, many/asks)
	if many > 30*few {
		t.Errorf("%v of 60 program headers, %v of 60,000", few/asks, many/asks)
	}
}

// TestMissingAllocates: a page that is not there costs no stack, and no text
// that nobody reads. Page tables of a host lead to many such pages.
func TestMissingAllocates(t *testing.T) {
	m := sparse(60)
	b := make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() { m.ReadPhys(b, 0x1000) }); n > 1 {
		t.Errorf("%v allocations for a page that is not there, expected 1 at most", n)
	}
	_, err := m.ReadPhys(b, 0x1000)
	if want := "physical address 0x1000: " + plan.ErrExcluded.Error(); err == nil || err.Error() != want {
		t.Errorf("error %v, expected %s", err, want)
	}
}
