package vmcore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// cuts split a dump made for a test into pieces, between pages that touch too.
var cuts = []PFNs{{Start: 0, End: 64}, {Start: 64, End: 32768}, {Start: 32768, End: kdumpMax}}

// pieceOf makes a piece of a dump.
func pieceOf(t testing.TB, s kdumpSpec, p PFNs) *kdump.Dump {
	t.Helper()
	s.split = [2]uint64{p.Start, p.End}
	return openKDump(t, s.build())
}

// TestJoinPieces reads pieces as what they are pieces of.
func TestJoinPieces(t *testing.T) {
	for name, s := range map[string]kdumpSpec{
		"64":           {there: []uint64{3, 40000}},
		"64-be":        {order: kdumpSpecs["64-be"].order},
		"64k-pages":    kdumpSpecs["64k-pages"],
		"32-packed":    kdumpSpecs["32-packed"],
		"32-padded-be": kdumpSpecs["32-padded-be"],
	} {
		t.Run(name, func(t *testing.T) {
			whole := openKDump(t, s.build())
			pieces := []Core{kdumpCore{pieceOf(t, s, cuts[2])}, kdumpCore{pieceOf(t, s, cuts[0])}, kdumpCore{pieceOf(t, s, cuts[1])}}
			c, err := JoinPieces(pieces, []string{"c", "a", "b"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := slices.Collect(c.Ranges()), slices.Collect(whole.Ranges()); !slices.Equal(got, want) {
				t.Errorf("runs %v, want %v", got, want)
			}
			size := uint64(s.blockSize)
			if size == 0 {
				size = 4096
			}
			a, b := make([]byte, 2*size), make([]byte, 2*size)
			for _, pfn := range append([]uint64{3, 4, 62, 66, 32766, 39999, kdumpMax, 1 << 40}, kdumpPages...) {
				n, err := c.ReadPhys(a, pfn*size+8)
				m, want := whole.ReadPhys(b, pfn*size+8)
				if n != m || !bytes.Equal(a[:n], b[:m]) || errors.Cause(err) != errors.Cause(want) {
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
	s := kdumpSpec{}
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
		{"the first alone", kdumpCore{one}, []PFNs{{Start: 64, End: kdumpMax}}, []uint64{64, 65, 40000}},
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
	first := pieceOf(t, kdumpSpec{}, cuts[0])
	edited := func(at int64) *kdump.Dump {
		return pieceOf(t, kdumpSpec{edit: func(b []byte, _ *kdump.Header) { b[at]++ }}, cuts[1])
	}
	for _, tt := range []struct {
		name  string
		other Core
		err   string
	}{
		{"a whole dump", kdumpCore{openKDump(t, kdumpSpec{}.build())}, "other: not a piece of a split dump"},
		{"an ELF core", elfCore{openImage(t, "deb-t1.elf31")}, "other: not a piece of a split dump"},
		{"another host", kdumpCore{edited(12 + 65)}, "first and other are pieces of different dumps: their kernels and hosts (utsname) differ"},
		{"another time", kdumpCore{edited(408)}, "their timestamps differ"},
		{"another VMCOREINFO", kdumpCore{edited(4096 + 104 + 356 + 24)}, "their VMCOREINFO notes differ"},
		{"another machine", kdumpCore{pieceOf(t, kdumpSpec{maxMapnr: kdumpMax + 1}, cuts[1])}, "their highest PFNs differ"},
		{"another page size", kdumpCore{pieceOf(t, kdumpSpec{blockSize: 64 << 10}, cuts[1])}, "their page sizes differ"},
		{"another word size", kdumpCore{pieceOf(t, kdumpSpec{abi: kdump.ABI32Padded}, cuts[1])}, "their formats differ"},
		{"the same piece", kdumpCore{pieceOf(t, kdumpSpec{}, cuts[0])}, "first and other both hold PFNs 0x0 to 0x3f"},
		{"pieces that overlap", kdumpCore{pieceOf(t, kdumpSpec{}, PFNs{Start: 50, End: 70})}, "first and other both hold PFNs 0x32 to 0x3f"},
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
			clear(b[h.DescOff()+int64(from)*plan.DescSize : h.DescOff()+int64(len(kdumpPages))*plan.DescSize])
		}
	}
	all := uint64(len(kdumpPages))
	for name, tt := range map[string]struct {
		spec kdumpSpec
		want Shortfall
	}{
		"whole":               {kdumpSpec{}, Shortfall{Total: all}},
		"marked alone":        {kdumpSpec{status: kdump.StatusIncomplete}, Shortfall{Incomplete: true, Total: all}},
		"four never written":  {kdumpSpec{status: kdump.StatusIncomplete, edit: unwritten(len(kdumpPages) - 4)}, Shortfall{Incomplete: true, Pages: 4, Total: all}},
		"cut in the data":     {kdumpSpec{cut: 1}, Shortfall{Truncated: true, Pages: 1, Total: all}},
		"filtered is no loss": {kdumpSpec{there: []uint64{3, 4, 5}}, Shortfall{Total: all}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ShortfallOf(kdumpCore{openKDump(t, tt.spec.build())}); got.Truncated != tt.want.Truncated || got.Incomplete != tt.want.Incomplete || got.Pages != tt.want.Pages || got.Total != tt.want.Total || got.Split {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
