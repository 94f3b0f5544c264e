package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	hexes "encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// openCore opens a dump of testdata/cores.
func openCore(t testing.TB, name string) vmcore.Core {
	t.Helper()
	image := testcores.Image(t, name)
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// A known is what check.json has of a VMCS, and of the guest it is of.
type known struct {
	PA       uint64
	Guest    string
	Fields   map[string]uint64
	CodeGPA  uint64 `json:"code_gpa"`
	CodeHPA  uint64 `json:"code_hpa"`
	Expected struct {
		HVA, CR3, RSP, Code string
		CodeGPA             string `json:"code_gpa"`
	}
}

func loadKnown(t testing.TB, name string) []known {
	t.Helper()
	b, err := os.ReadFile("../testdata/cores/vmx/" + name + "/check.json")
	if err != nil {
		t.Fatal(err)
	}
	var check struct {
		VMCS     []known
		Expected map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &check); err != nil {
		t.Fatal(err)
	}
	for i := range check.VMCS {
		v := &check.VMCS[i]
		if err := json.Unmarshal(check.Expected[v.Guest], &v.Expected); err != nil {
			t.Fatal(err)
		}
	}
	return check.VMCS
}

func (k known) config() memoryConfig {
	return memoryConfig{EPTP: k.Fields["EPT_POINTER"], HostCR3: k.Fields["HOST_CR3"], HostCR4: k.Fields["HOST_CR4"]}
}

// Guests of 2 MiB, made by a small VMM; what each should have in the way of
// pages was counted before the crash.
func TestMemoryOfGuests(t *testing.T) {
	pages := map[byte]Tally{
		'A': {EPT: 7 * pageSize, Process: 1 * pageSize},
		'B': {EPT: 512 * pageSize},
		'C': {EPT: 9 * pageSize, Process: 1 * pageSize},
		'D': {EPT: 2 * pageSize, Process: 3 * pageSize},
	}
	for _, name := range []string{"hsw-default", "deb27-package-kdump"} {
		core := openCore(t, "vmx/"+name+"/mini")
		for _, v := range loadKnown(t, name) {
			t.Run(name+"/"+v.Guest, func(t *testing.T) {
				m, err := openPhysical(core, v.config())
				if err != nil {
					t.Fatal(err)
				}
				if got, want := m.Tally(), pages[v.Guest[0]]; got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				hva, err := strconv.ParseUint(v.Expected.HVA, 0, 64)
				if err != nil {
					t.Fatal(err)
				}
				if s := m.Slots(); len(s) != 1 || s[0].GPA != 0 || s[0].HVA != hva || s[0].Size != 2<<20 {
					t.Errorf("slots %#x, want one of 2 MiB from 0 to %#x", s, hva)
				}
				code, err := hexes.DecodeString(v.Expected.Code)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(code))
				if _, err := m.ReadPhys(got, v.CodeGPA); err != nil || !bytes.Equal(got, code) {
					t.Errorf("code at %#x: %x, %v, want %x", v.CodeGPA, got, err, code)
				}
			})
		}
	}
}

// Linux guests in dumps that are trimmed to EPT's tables and some of the
// guest's pages. The process's tables are not in them, so that EPT is all there
// is.
func TestMemoryOfLinux(t *testing.T) {
	for _, name := range []string{"amd64-nokaslr-idle-parked", "amd64-kaslr-spin-inguest-shuffled"} {
		t.Run(name, func(t *testing.T) {
			h := openHost(t, name)
			c := memoryConfig{EPTP: mustField(t, h, "EPT_POINTER")}
			c.HostCR3, c.HostCR4 = mustField(t, h, "HOST_CR3"), mustField(t, h, "HOST_CR4")
			m, err := openPhysical(h.core, c)
			if err != nil {
				t.Fatal(err)
			}
			var holes []uint64
			end := uint64(0)
			for r := range m.Ranges() {
				if r.Addr != end {
					holes = append(holes, end/pageSize, r.Addr/pageSize-1)
				}
				end = r.End()
			}
			// What the guest's firmware, a VMM, put there and nobody touched.
			if want := []uint64{0x1, 0x6, 0x8, 0x8, 0xc, 0x1f, 0x21, 0x7f, 0xa0, 0xbf}; !slices.Equal(holes, want) {
				t.Errorf("holes at %#x, want %#x", holes, want)
			}
			if end != h.truth["mem_bytes"] {
				t.Errorf("memory ends at %#x, want %#x", end, h.truth["mem_bytes"])
			}
			if got, want := m.Tally(), end-154*pageSize; got.EPT != want || got.Process != 0 {
				t.Errorf("got %+v, want %d bytes by EPT", got, want)
			}
			page := make([]byte, pageSize)
			for pfn, want := range h.json.Pages {
				addr := hex(t, "0x"+pfn) * pageSize
				if _, err := m.ReadPhys(page, addr); err != nil {
					t.Error(err)
				}
				sum := sha256.Sum256(page)
				if got := hexes.EncodeToString(sum[:8]); got != want {
					t.Errorf("page %s has hash %s, want %s", pfn, got, want)
				}
			}
			if len(h.json.Pages) < 300 {
				t.Errorf("%d pages read", len(h.json.Pages))
			}
			if _, err := m.ReadPhys(page, 0x6000); !errors.Is(err, ErrNotMapped) {
				t.Errorf("a page that is not mapped: %v", err)
			}
			if _, err := m.ReadPhys(page, 0x7000); !errors.Is(err, vmcore.ErrNoMemory) {
				t.Errorf("a page that was left out of the dump: %v", err)
			}
		})
	}
}

func mustField(t testing.TB, h *host, name string) uint64 {
	t.Helper()
	v, ok := h.vmcs.Field(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	return v
}

// What can be had of each page is told apart.
func TestMemory(t *testing.T) {
	v := newTestVM()
	v.slot(0, 0x7f00_4000_0000, 2*mib)
	v.slot(0x10_0000_0000, 0x7f00_6000_0000, 2*mib)
	v.touch(0x5000, 0x3000, 1)        // three pages by EPT
	v.fault(0x8000, 0x1000, 1)        // one by the process
	v.touch(0x10_0000_0000, 2*mib, 2) // a large one
	v.place(v.cr3, 4, 0x7f00_4000_9000, 1, 0x77ffffffffe1a600)
	v.place(v.cr3, 4, 0x7f00_4001_0000, 1, 0x20000867)
	v.place(v.ept, 4, 0xfee0_0000, 1, 0xf80fec00026)
	v.place(v.ept, 4, 0x8_0000_0000, 1, 0x30000037)
	for gpa := uint64(0x5000); gpa < 0x9000; gpa += pageSize {
		m, _ := NewProcess(v, v.cr3, 0).Translate(v.hva(gpa))
		v.put(m.Phys, gpa)
	}
	large, _ := NewProcess(v, v.cr3, 0).Translate(0x7f00_6000_0000)
	v.put(large.Phys+0x1f_fff8, 0xabcd)
	v.put(large.Phys+0x1f_eff8, 0xef01)
	m := v.open(t)
	if s := m.Slots(); len(s) != 2 || s[0].Pages != 3 || s[1].Pages != 512 {
		t.Errorf("slots %#x", s)
	}

	want := Tally{EPT: 3*pageSize + 2*mib + pageSize, Process: 2 * pageSize, Swapped: pageSize, MMIO: pageSize}
	if got := m.Tally(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	ranges := slices.Collect(m.Ranges())
	if want := []physmem.Range{{Addr: 0x5000, Size: 0x4000}, {Addr: 0x10000, Size: 0x1000}, {Addr: 0x8_0000_0000, Size: 0x1000}, {Addr: 0x10_0000_0000, Size: 2 * mib}}; !slices.Equal(ranges, want) {
		t.Errorf("ranges %#x, want %#x", ranges, want)
	}
	for range m.Ranges() {
		break // and nothing is called again
	}

	for _, tt := range []struct {
		name string
		gpa  uint64
		size int
		n    int
		err  error
	}{
		{"three pages by EPT and one by the process", 0x5000, 0x4000, 0x4000, nil},
		{"up to one that is swapped out", 0x6ff8, 0x8000, 0x2008, ErrSwapped},
		{"swapped out", 0x9008, 8, 0, ErrSwapped},
		{"never touched, in a slot", 0xa000, 8, 0, ErrNotPresent},
		{"in no slot", 0x300000, 8, 0, ErrNotMapped},
		{"above everything", 1<<64 - 8, 16, 0, ErrNotMapped},
		{"MMIO", 0xfee0_0020, 8, 0, ErrMMIO},
		{"mapped by EPT, not in the dump", 0x8_0000_0000, 8, 0, errNoRAM},
		{"mapped by the process, not in the dump", 0x10000, 8, 0, errNoRAM},
		{"in a large page", 0x10_001f_effc, 0x1004, 0x1004, nil},
		{"nothing", 0x300000, 0, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := make([]byte, tt.size)
			n, err := m.ReadPhys(p, tt.gpa)
			if n != tt.n || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Errorf("read %d bytes, %v, want %d, %v", n, err, tt.n, tt.err)
			}
			for i := 0; i+8 <= n && tt.gpa < 1<<20; i += 8 {
				gpa, want := tt.gpa+uint64(i), uint64(0)
				if want = gpa; gpa%pageSize != 0 {
					want = 0
				}
				if got := binary.LittleEndian.Uint64(p[i:]); got != want {
					t.Fatalf("%#x at %#x, want %#x", got, gpa, want)
				}
			}
		})
	}

	if _, err := openPhysical(v, memoryConfig{HostCR3: v.cr3}); err != ErrNoEPT {
		t.Errorf("without EPT: %v", err)
	}
	if _, err := openPhysical(v, memoryConfig{EPTP: 1}); !errors.Is(err, ErrBadEPTP) {
		t.Errorf("a bad EPTP: %v", err)
	}
}

// A table of EPT that is not in the dump costs nothing where the process has
// the memory.
func TestMemoryLostTable(t *testing.T) {
	v := newTestVM()
	v.slot(0, 0x7f00_4000_0000, 8*mib)
	v.touch(0, 0x1000, 1)
	v.touch(2*mib, 0x2000, 1)
	v.touch(4*mib, 0x1000, 1)
	v.place(v.ept, 4, 2*mib, 2, 0x7f_0000_0007)
	m := v.open(t)
	if got, want := m.Tally(), (Tally{EPT: 2 * pageSize, Process: 2 * pageSize, Tables: 2 * mib}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if e, err := m.Translate(2*mib + 0x1800); err != nil || e.Addr != 2*mib+0x1000 || e.Size != pageSize {
		t.Errorf("got %#x, %v", e, err)
	}
	if _, err := m.Translate(6 * mib); !errors.Is(err, ErrNotMapped) {
		t.Errorf("got %v", err)
	}
}

// A slot may begin in the middle of a large page.
func TestMemoryLargePageAcrossSlot(t *testing.T) {
	v := newTestVM()
	v.slot(0, 0x7f00_4000_3000, 0x100000)
	v.user(0x7f00_4000_0000, 2*mib, 2)
	v.touch(0x5000, 0x1000, 1)
	m := v.open(t)
	n := 0
	for r := range m.Ranges() {
		if n++; r.Addr != 0 || r.Size != 0x6000 {
			t.Errorf("range of %#x bytes from %#x", r.Size, r.Addr)
		}
	}
	want, _ := NewProcess(v, v.cr3, 0).Translate(0x7f00_4000_3000)
	if e, err := m.Translate(0x1000); n != 1 || err != nil || e.Addr != 0x1000 || e.Size != 0x1000 || e.Phys != want.Phys+0x4000 {
		t.Errorf("%d ranges, %#x, %v, want %#x", n, e, err, want.Phys+0x4000)
	}
}

// Reads at the same time do not disturb each other's tables.
func TestMemoryConcurrent(t *testing.T) {
	v := newTestVM()
	v.slot(0, 0x7f00_0000_0000, gib)
	for gpa := uint64(0); gpa < gib; gpa += 16 * mib {
		v.touch(gpa, 2*pageSize, 1)
		v.fault(gpa+2*pageSize, pageSize, 1)
		for i := range uint64(3) {
			v.put(v.hpa(gpa+i*pageSize), gpa+i*pageSize)
		}
	}
	m := v.open(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := make([]byte, 8)
			for r := range m.Ranges() {
				for addr := r.Addr; addr < r.End(); addr += pageSize {
					if _, err := m.ReadPhys(p, addr); err != nil || binary.LittleEndian.Uint64(p) != addr {
						t.Errorf("%#x: %x, %v", addr, p, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
