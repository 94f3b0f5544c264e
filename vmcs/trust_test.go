package vmcs

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"vmcsnote/internal/x86"
)

// TestFoundNotes is on a host in whose memory there are notes, of which some
// are forged or of another processor.
func TestFoundNotes(t *testing.T) {
	tr := loadTruth(t, "vmx/hsw-default")
	genuine := loadNote(t, "vmx/hsw-default")
	genuine.SetAccessRights(RightsRotated)
	forge := func(l *Layout) *Layout {
		f := l.clone()
		rip, _ := f.Lookup("HOST_RIP")
		i := slices.IndexFunc(f.Entries, func(e Entry) bool { return e.Name == "GUEST_RIP" })
		f.Entries[i].Offset = rip.Offset
		return f
	}
	forgeRSP := func(l *Layout) *Layout {
		f := l.clone()
		rsp := slices.IndexFunc(f.Entries, func(e Entry) bool { return e.Name == "GUEST_RSP" })
		base, _ := f.Lookup("GUEST_SYSENTER_ESP")
		f.Entries[rsp].Offset = base.Offset
		return f
	}
	alien := genuine.clone()
	alien.RevisionID = 0x77
	unknown, _ := shuffled(genuine, rand.New(rand.NewPCG(7, 7)), 0x123, RightsRotated)
	for _, tt := range []struct {
		name      string
		of        *Layout // the VMCSs'
		found     []FoundNote
		want      int // of found; -1: built in
		disputes  int
		ambiguous int
	}{
		{"genuine", genuine, []FoundNote{{genuine, OwnerUnknown}}, 0, 0, 0},
		{"a process's, but not contradicted", genuine, []FoundNote{{genuine, OwnerUser}}, 0, 0, 0},
		{"of another processor", genuine, []FoundNote{{alien, OwnerUser}}, -1, 0, 0},
		{"of another processor, in the kernel's memory", genuine, []FoundNote{{alien, OwnerKernel}}, -1, 0, 0},
		{"forged", genuine, []FoundNote{{forge(genuine), OwnerUnknown}}, -1, 1, 0},
		{"forged, before the genuine one", genuine, []FoundNote{{forge(genuine), OwnerUnknown}, {genuine, OwnerUnknown}}, 1, 1, 0},
		{"forged, and the genuine one in the kernel's memory", genuine, []FoundNote{{forge(genuine), OwnerUser}, {genuine, OwnerKernel}}, 1, 1, 0},
		{"in the kernel's memory, contradicted", genuine, []FoundNote{{forge(genuine), OwnerKernel}}, 0, 1, 0},
		{"of a processor not built in", unknown, []FoundNote{{unknown, OwnerUnknown}}, 0, 0, 0},
		{"of a processor not built in, forged beside genuine", unknown, []FoundNote{{unknown, OwnerUnknown}, {forge(unknown), OwnerUnknown}}, 0, 1, 0},
		{"of a processor not built in, forged so that every check holds", unknown, []FoundNote{{unknown, OwnerUnknown}, {forgeRSP(unknown), OwnerUnknown}}, 0, 0, 1},
		{"of a processor not built in, genuine in the kernel's memory", unknown, []FoundNote{{forge(unknown), OwnerUser}, {unknown, OwnerKernel}}, 1, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := loadMemory(t, "vmx/hsw-default/mini")
			for _, v := range tr.VMCSs {
				if tt.of != genuine {
					m[v.PA] = transplant{genuine, tt.of, tt.of.RevisionID}.page(m[v.PA])
				}
			}
			res := find(t, m, Search{Found: tt.found})
			if len(res.VMCSs) != len(tr.VMCSs) {
				t.Fatalf("%d VMCSs, expected %d", len(res.VMCSs), len(tr.VMCSs))
			}
			for i, n := range tt.found {
				taken := res.Layout.Form == n.Layout.Form && len(res.Layout.conflicts(n.Layout)) == 0
				if taken != (i == tt.want) {
					t.Errorf("note %d taken: %v", i, taken)
				}
			}
			if tt.want < 0 && res.Layout.Form != FormBuiltin {
				t.Errorf("layout %v taken, expected a built-in one", res.Layout.Form)
			}
			if d := res.Disputes(); len(d) != tt.disputes || len(d) > 0 && !slices.Equal(d[0].Fields, []string{"GUEST_RIP"}) {
				t.Errorf("disputes %+v, expected %d", d, tt.disputes)
			}
			if a := res.Ambiguous(); len(a) != tt.ambiguous {
				t.Errorf("%d ambiguous, expected %d", len(a), tt.ambiguous)
			}
		})
	}
}

// TestOwners is on a host's own list of pages.
func TestOwners(t *testing.T) {
	m := loadMemory(t, "vmx/guests-ended/mini")
	v := VMCS{Page: m[0x1e647000], Layout: loadNote(t, "vmx/deb27-package-kdump")}
	info := endedInfo + "NUMBER(phys_base)=-16777216\nSYMBOL(swapper_pg_dir)=" + strconv.FormatUint(linuxText+1<<24+v.get("HOST_CR3")&x86.AddrMask, 16) + "\n"
	o := NewOwners(m, info)
	for addr, want := range map[uint64]Owner{0x1e647000: OwnerKernel, 0x1e647abc: OwnerKernel, 0x1efa0000: OwnerNone, 1 << 40: OwnerUnknown} {
		if got := o.Of(addr); got != want {
			t.Errorf("%#x: %v, expected %v", addr, got, want)
		}
	}
	if o := NewOwners(m, endedInfo); o != nil || o.Of(0x1e647000) != OwnerUnknown {
		t.Error("VMCOREINFO without page tables tells owners")
	}
}
