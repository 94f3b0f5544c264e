package vmcore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// cuts split a dump made for a test into pieces, between pages that touch too.
var cuts = []PFNs{{Start: 0, End: 64}, {Start: 64, End: 32768}, {Start: 32768, End: testdumps.MaxPFN}}

// pieceOf makes a piece of a dump.
func pieceOf(t testing.TB, s testdumps.KDump, p PFNs) *kdump.Dump {
	t.Helper()
	s.Split = [2]uint64{p.Start, p.End}
	return testdumps.OpenKDump(t, s.Build())
}

// TestJoinPieces reads pieces as what they are pieces of.
func TestJoinPieces(t *testing.T) {
	for name, s := range map[string]testdumps.KDump{
		"64":           {There: []uint64{3, 40000}},
		"64-be":        {Order: testdumps.KDumps["64-be"].Order},
		"64k-pages":    testdumps.KDumps["64k-pages"],
		"32-packed":    testdumps.KDumps["32-packed"],
		"32-padded-be": testdumps.KDumps["32-padded-be"],
	} {
		t.Run(name, func(t *testing.T) {
			whole := testdumps.OpenKDump(t, s.Build())
			pieces := []Core{kdumpCore{pieceOf(t, s, cuts[2])}, kdumpCore{pieceOf(t, s, cuts[0])}, kdumpCore{pieceOf(t, s, cuts[1])}}
			c, err := JoinPieces(pieces, []string{"c", "a", "b"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := slices.Collect(c.Ranges()), slices.Collect(whole.Ranges()); !slices.Equal(got, want) {
				t.Errorf("runs %v, want %v", got, want)
			}
			size := uint64(s.BlockSize)
			if size == 0 {
				size = 4096
			}
			a, b := make([]byte, 2*size), make([]byte, 2*size)
			for _, pfn := range append([]uint64{3, 4, 62, 66, 32766, 39999, testdumps.MaxPFN, 1 << 40}, testdumps.Pages...) {
				n, err := c.ReadPhys(a, pfn*size+8)
				m, want := whole.ReadPhys(b, pfn*size+8)
				if n != m || !bytes.Equal(a[:n], b[:m]) || fmt.Sprint(err) != fmt.Sprint(want) {
					t.Errorf("PFN %#x: %d bytes, %v, want %d, %v", pfn, n, err, m, want)
				}
			}
			if s := ShortfallOf(c); s.Partial() || !s.Split || !slices.Equal(s.Pieces, cuts) {
				t.Errorf("shortfall %+v", s)
			}
		})
	}
}

// TestPieceLacking: what another piece holds is neither excluded nor no memory.
func TestPieceLacking(t *testing.T) {
	s := testdumps.KDump{}
	one, three := pieceOf(t, s, cuts[0]), pieceOf(t, s, cuts[2])
	two, err := JoinPieces([]Core{kdumpCore{one}, kdumpCore{three}}, []string{"one", "three"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		c       Core
		lacking []PFNs
		other   []uint64 // PFNs in other pieces
	}{
		{"the first alone", kdumpCore{one}, []PFNs{{Start: 64, End: testdumps.MaxPFN}}, []uint64{64, 65, 40000}},
		{"the last alone", kdumpCore{three}, []PFNs{{Start: 0, End: 32768}}, []uint64{0, 64, 32767}},
		{"first and last", two, []PFNs{{Start: 64, End: 32768}}, []uint64{64, 32767}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s := ShortfallOf(tt.c); !s.Partial() || !slices.Equal(s.Lacking, tt.lacking) || s.Pages != 0 {
				t.Errorf("shortfall %+v, want %v lacking", s, tt.lacking)
			}
			for _, pfn := range tt.other {
				if n, err := tt.c.ReadPhys(make([]byte, 8), pfn*4096); n != 0 || !errors.Is(err, ErrOtherPiece) {
					t.Errorf("PFN %#x: %d bytes, %v, want ErrOtherPiece", pfn, n, err)
				}
			}
		})
	}
}

func TestJoinPiecesRefused(t *testing.T) {
	first := pieceOf(t, testdumps.KDump{}, cuts[0])
	edited := func(at int64) *kdump.Dump {
		return pieceOf(t, testdumps.KDump{Edit: func(b []byte, _ *kdump.Header) { b[at]++ }}, cuts[1])
	}
	for _, tt := range []struct {
		name  string
		other Core
		err   string
	}{
		{"a whole dump", kdumpCore{testdumps.OpenKDump(t, testdumps.KDump{}.Build())}, "other: not a piece of a split dump"},
		{"an ELF core", elfCore{testdumps.OpenELF(t, "deb-t1.elf31")}, "other: not a piece of a split dump"},
		{"another host", kdumpCore{edited(12 + 65)}, "first and other are pieces of different dumps: their kernels and hosts (utsname) differ"},
		{"another time", kdumpCore{edited(408)}, "their timestamps differ"},
		{"another VMCOREINFO", kdumpCore{edited(4096 + 104 + 356 + 24)}, "their VMCOREINFO notes differ"},
		{"another machine", kdumpCore{pieceOf(t, testdumps.KDump{MaxMapnr: testdumps.MaxPFN + 1}, cuts[1])}, "their highest PFNs differ"},
		{"another page size", kdumpCore{pieceOf(t, testdumps.KDump{BlockSize: 64 << 10}, cuts[1])}, "their page sizes differ"},
		{"another word size", kdumpCore{pieceOf(t, testdumps.KDump{ABI: kdump.ABI32Padded}, cuts[1])}, "their formats differ"},
		{"the same piece", kdumpCore{pieceOf(t, testdumps.KDump{}, cuts[0])}, "first and other both hold PFNs 0x0 to 0x3f"},
		{"pieces that overlap", kdumpCore{pieceOf(t, testdumps.KDump{}, PFNs{Start: 50, End: 70})}, "first and other both hold PFNs 0x32 to 0x3f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := JoinPieces([]Core{kdumpCore{first}, tt.other}, []string{"first", "other"})
			if err == nil || !strings.HasSuffix(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestShortfallIncomplete counts the pages that were never written, and those
// that the file was cut before.
func TestShortfallIncomplete(t *testing.T) {
	unwritten := func(from int) func([]byte, *kdump.Header) {
		return func(b []byte, h *kdump.Header) {
			clear(b[h.DescOff()+int64(from)*plan.DescSize : h.DescOff()+int64(len(testdumps.Pages))*plan.DescSize])
		}
	}
	all := uint64(len(testdumps.Pages))
	for name, tt := range map[string]struct {
		spec testdumps.KDump
		want Shortfall
	}{
		"whole":               {testdumps.KDump{}, Shortfall{Total: all}},
		"marked alone":        {testdumps.KDump{Status: kdump.StatusIncomplete}, Shortfall{Incomplete: true, Total: all}},
		"four never written":  {testdumps.KDump{Status: kdump.StatusIncomplete, Edit: unwritten(len(testdumps.Pages) - 4)}, Shortfall{Incomplete: true, Pages: 4, Total: all}},
		"cut in the data":     {testdumps.KDump{Cut: 1}, Shortfall{Truncated: true, Pages: 1, Total: all}},
		"filtered is no loss": {testdumps.KDump{There: []uint64{3, 4, 5}}, Shortfall{Total: all}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ShortfallOf(kdumpCore{testdumps.OpenKDump(t, tt.spec.Build())}); got.Truncated != tt.want.Truncated || got.Incomplete != tt.want.Incomplete || got.Pages != tt.want.Pages || got.Total != tt.want.Total || got.Split {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
