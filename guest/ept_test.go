package guest

import (
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
)

func TestNewEPT(t *testing.T) {
	for _, tt := range []struct {
		name   string
		eptp   uint64
		levels int
		bad    bool
	}{
		{"4 levels, write-back, A/D (KVM since Haswell)", 0x1e64f05e, 4, false},
		{"4 levels, write-back", 0x1e64f01e, 4, false},
		{"5 levels", 0x1e64f066, 5, false},
		{"uncacheable", 0x1e64f018, 4, false},
		{"supervisor shadow stacks (bit 7)", 0x1e64f0de, 4, false},
		{"root at the top of memory", 0xffffffffff01e, 4, false},
		{"none", 0, 0, true},
		{"3 levels", 0x1e64f016, 0, true},
		{"6 levels", 0x1e64f02e, 0, true},
		{"write-combining", 0x1e64f019, 0, true},
		{"reserved bit 8", 0x1e64f15e, 0, true},
		{"reserved bit 52", 1<<52 | 0x1e64f05e, 0, true},
		{"all ones", 1<<64 - 1, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := newEPT(nil, x86.EPTP(tt.eptp), false)
			if tt.bad {
				if !errors.Is(err, ErrBadEPTP) || e != nil {
					t.Errorf("got %v, %v", e, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if levels := e.Format().Levels; levels != tt.levels || e.Root() != tt.eptp&x86.AddrMask {
				t.Errorf("%d levels, root %#x", levels, e.Root())
			}
		})
	}
}

// newTestEPT makes an EPT of the levels given, empty.
func newTestEPT(t testing.TB, r *ram, levels int, modeBased bool) *x86.Tables {
	t.Helper()
	e, err := newEPT(r, x86.EPTP(r.table()|uint64(levels-1)<<3|6), modeBased)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEPTTranslate(t *testing.T) {
	const gpa = 0x12_3456_7000
	for _, tt := range []struct {
		name  string
		level int // of the entry
		entry uint64
		gpa   uint64
		mode  bool // mode-based execute control
		want  Mapping
		err   error
	}{
		{name: "4 KiB", level: 1, entry: 0x60000001e55fb77, gpa: gpa + 0x123, want: Mapping{Addr: gpa, Phys: 0x1e55f000, Size: 4 << 10}},
		{name: "2 MiB", level: 2, entry: 0x600000006a00bf7, gpa: gpa, want: Mapping{Addr: 0x12_3440_0000, Phys: 0x6a00000, Size: 2 << 20}},
		{name: "1 GiB", level: 3, entry: 0x40000bf7, gpa: gpa, want: Mapping{Addr: 0x12_0000_0000, Phys: 0x40000000, Size: 1 << 30}},
		{name: "read-only", level: 1, entry: 0x5031, gpa: gpa, want: Mapping{Addr: gpa, Phys: 0x5000, Size: 4 << 10}},
		{name: "execute-only", level: 1, entry: 0x5034, gpa: gpa, want: Mapping{Addr: gpa, Phys: 0x5000, Size: 4 << 10}},
		{name: "execute-only for user mode", level: 1, entry: 0x5430, gpa: gpa, mode: true, want: Mapping{Addr: gpa, Phys: 0x5000, Size: 4 << 10}},
		{name: "bit 10 without mode-based execute control", level: 1, entry: 0x5430, gpa: gpa, want: Mapping{Addr: gpa, Size: 4 << 10}, err: ErrNotMapped},
		{name: "accessed and dirty, neither", level: 1, entry: 0x5037, gpa: gpa, want: Mapping{Addr: gpa, Phys: 0x5000, Size: 4 << 10}},
		{name: "address bits up to 51, and no further", level: 1, entry: 0xfff<<52 | 0xf_ffff_ffff_f000 | 0x37, gpa: gpa, want: Mapping{Addr: gpa, Phys: 0xf_ffff_ffff_f000, Size: 4 << 10}},
		{name: "not there", level: 1, gpa: gpa, want: Mapping{Addr: gpa, Size: 4 << 10}, err: ErrNotMapped},
		{name: "not there, but #VE suppressed (KVM since 6.10)", level: 1, entry: 1 << 63, gpa: gpa, want: Mapping{Addr: gpa, Size: 4 << 10}, err: ErrNotMapped},
		{name: "no table", level: 2, gpa: gpa, want: Mapping{Addr: 0x12_3440_0000, Size: 2 << 20}, err: ErrNotMapped},
		{name: "KVM's MMIO", level: 1, entry: 0xf80fec00026, gpa: gpa, want: Mapping{Addr: gpa, Size: 4 << 10}, err: ErrMMIO},
		{name: "write-only", level: 1, entry: 0x5032, gpa: gpa, want: Mapping{Addr: gpa, Size: 4 << 10}, err: ErrMMIO},
		{name: "2 MiB, off its boundary", level: 2, entry: 0x6a01bf7, gpa: gpa, want: Mapping{Addr: 0x12_3440_0000, Size: 2 << 20}, err: ErrReserved},
		{name: "512 GiB, which there is not", level: 4, entry: 0xbf7, gpa: gpa, want: Mapping{Size: 512 << 30}, err: ErrReserved},
		{name: "table with a memory type", level: 2, entry: 0x5037, gpa: gpa, want: Mapping{Addr: 0x12_3440_0000, Size: 2 << 20}, err: ErrReserved},
		{name: "table beyond memory", level: 2, entry: 0x7f_0000_0007, gpa: gpa, want: Mapping{Addr: 0x12_3440_0000, Size: 2 << 20}, err: errNoRAM},
		{name: "beyond what 4 levels map", level: 1, gpa: 1 << 48, want: Mapping{Addr: 1 << 48, Size: 1<<64 - 1<<48}, err: ErrNotCanonical},
		{name: "the highest address", level: 1, gpa: 1<<64 - 1, want: Mapping{Addr: 1 << 48, Size: 1<<64 - 1<<48}, err: ErrNotCanonical},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRAM()
			e := newTestEPT(t, r, 4, tt.mode)
			at := r.place(e.Root(), 4, gpa, tt.level, tt.entry)
			m, err := e.Translate(tt.gpa)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if m.Addr != tt.want.Addr || m.Phys != tt.want.Phys || m.Size != tt.want.Size {
				t.Errorf("got %#x, want %#x", m, tt.want)
			}
			var ee *EntryError
			if errors.As(err, &ee) && tt.err != errNoRAM && (ee.Addr != at || ee.Entry != tt.entry || ee.Level != tt.level) {
				t.Errorf("error says %v, the entry is at %#x", ee, at)
			}
			ofGuest := tt.err
			if ofGuest == ErrNotCanonical { // to the guest that is no memory, as elsewhere
				ofGuest = ErrNotMapped
			}
			if _, err := (&Physical{ept: e}).Translate(tt.gpa); !errors.Is(err, ofGuest) {
				t.Errorf("the guest's memory: %v, want %v", err, ofGuest)
			}
			// The iteration comes to the same mapping.
			n, want := 0, 1
			if ofGuest == ErrNotMapped {
				want = 0
			}
			for got, err := range e.Mappings() {
				if n++; got.Addr != m.Addr || got.Phys != m.Phys || got.Size != m.Size || !errors.Is(err, tt.err) {
					t.Errorf("iteration gives %#x, %v", got, err)
				}
			}
			if n != want {
				t.Errorf("iteration gives %d mappings, want %d", n, want)
			}
		})
	}
}

func TestEPTFiveLevels(t *testing.T) {
	r := newRAM()
	e := newTestEPT(t, r, 5, false)
	const gpa = 0x1ab_cdef_0123_4000
	r.place(e.Root(), 5, gpa, 1, 0x5037)
	if m, err := e.Translate(gpa + 5); err != nil || m.Phys != 0x5000 || m.Addr != gpa {
		t.Errorf("got %#x, %v", m, err)
	}
}

// A table that points to itself from each entry is a guest of 512^4 pages.
func TestEPTLoop(t *testing.T) {
	for _, levels := range []int{4, 5} {
		r := newRAM()
		e := newTestEPT(t, r, levels, false)
		for i := range uint64(x86.Entries) {
			r.put(e.Root()+8*i, e.Root()|link)
		}
		if m, err := e.Translate(0x1234567); err != nil || m.Phys != e.Root() {
			t.Errorf("%d levels: got %#x, %v", levels, m, err)
		}
		n, again := 0, 0
		for _, err := range e.Mappings() {
			n++
			if errors.Is(err, ErrTableAgain) {
				again++
			}
		}
		if want := levels*511 + 1; n != want || again != want-x86.Entries {
			t.Errorf("%d levels: %d mappings, %d of tables met again, want %d", levels, n, again, want)
		}
	}
}

func TestWalkBounds(t *testing.T) {
	r := newRAM()
	e := newTestEPT(t, r, 4, false)
	for gpa := uint64(0x1f0000); gpa < 0x220000; gpa += pageSize {
		r.place(e.Root(), 4, gpa, 1, gpa|0x37)
	}
	w := e.Walker()
	for _, tt := range []struct{ lo, hi, first, n uint64 }{
		{0, 1 << 48, 0x1f0000, 0x30},
		{0x1f0000, 0x220000, 0x1f0000, 0x30},
		{0x1ff000, 0x201000, 0x1ff000, 2},
		{0x1ff800, 0x200800, 0x1ff000, 2},
		{0x210000, 1 << 63, 0x210000, 0x10},
		{0x300000, 1 << 48, 0, 0},
		{0x200000, 0x200000, 0, 0},
	} {
		var first, n uint64
		for m, err := range w.In(tt.lo, tt.hi-1) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 1 {
				first = m.Addr
			}
		}
		if first != tt.first || n != tt.n {
			t.Errorf("%#x to %#x: %d mappings from %#x, want %d from %#x", tt.lo, tt.hi, n, first, tt.n, tt.first)
		}
	}
}
