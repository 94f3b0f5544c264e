package learn

import (
	"encoding/binary"
	"slices"
	"testing"

	"vmcsnote/vmcs"
)

// host returns pages and values of as many vCPUs as there are, all with sound
// values in the first bytes of the page: enough for a layout.
func host(n int) (all []VMCS) {
	fields := []vmcs.Encoding{
		vmcs.HostCR3, vmcs.HostRSP, vmcs.HostRIP, vmcs.HostGSBase, vmcs.MSRBitmap, vmcs.TSCOffset, vmcs.VMEntryMSRLoadAddr, vmcs.VMExitMSRLoadAddr,
		vmcs.HostFSBase,
	}
	for i := range n {
		v := VMCS{Page: make([]byte, vmcs.PageSize)}
		for j, e := range fields {
			x := uint64(j+1)<<56 | 0x123456789abc00 | uint64(i)
			binary.LittleEndian.PutUint64(v.Page[8+8*j:], x)
			v.Values = append(v.Values, Value{Field: e, Want: x, Sure: true, Must: j == 0})
		}
		all = append(all, v)
	}
	return all
}

// place is where the tests put a field that host does not have.
const place = 0x801

// What it takes to claim a field.
func TestClaim(t *testing.T) {
	put := func(all []VMCS, e vmcs.Encoding, at int, sure bool, values ...uint64) {
		for i, x := range values {
			if at != 0 {
				copy(all[i].Page[at:at+e.Width()], binary.LittleEndian.AppendUint64(nil, x))
			}
			all[i].Values = append(all[i].Values, Value{Field: e, Want: x, Sure: sure})
		}
	}
	copied := func(all []VMCS, from, to, n int) {
		for i := range all {
			copy(all[i].Page[to:to+n], all[i].Page[from:from+n])
		}
	}
	for _, tt := range []struct {
		name   string
		change func(all []VMCS)
		field  vmcs.Encoding
		want   bool
	}{
		{"two different small values", func(all []VMCS) { put(all, vmcs.VMExitReason, place, false, 0x30, 0xc) }, vmcs.VMExitReason, true},
		{"one small value", func(all []VMCS) { put(all, vmcs.VMExitReason, place, false, 0x30, 0x30) }, vmcs.VMExitReason, false},
		{"one large value", func(all []VMCS) { put(all, vmcs.ExitQualification, place, false, 0x1ffffffff, 0x1ffffffff) }, vmcs.ExitQualification, true},
		{"one value of 18 bits", func(all []VMCS) { put(all, vmcs.ExceptionBitmap, place, false, 0x60042, 0x60042) }, vmcs.ExceptionBitmap, false},
		{"one value of 18 bits, of a field that must be somewhere", func(all []VMCS) { put(all, vmcs.ExceptionBitmap, place, true, 0x60042, 0x60042) }, vmcs.ExceptionBitmap, true},
		{"all ones", func(all []VMCS) {
			put(all, vmcs.VMCSLinkPointer, place, true, ^uint64(0), ^uint64(0))
		}, vmcs.VMCSLinkPointer, false},
		{"in two places", func(all []VMCS) {
			put(all, vmcs.ExitQualification, place, false, 0x123456789, 0x923456781)
			copied(all, place, 0x900, 8)
		}, vmcs.ExitQualification, false},
		{"in two places, but in one only of one vCPU", func(all []VMCS) {
			put(all, vmcs.ExitQualification, place, false, 0x123456789, 0x923456781)
			copied(all[:1], place, 0x900, 8)
		}, vmcs.ExitQualification, true},
		{"in no place of one vCPU", func(all []VMCS) {
			put(all, vmcs.ExitQualification, place, false, 0x123456789, 0x923456781)
			all[1].Page[place]++
		}, vmcs.ExitQualification, false},
		{"in two places, of which one is another field's", func(all []VMCS) {
			// By the third vCPU that is HOST_CR3's.
			put(all, vmcs.GuestCR3, place, false, all[0].Values[0].Want, all[1].Values[0].Want)
		}, vmcs.GuestCR3, true},
		{"in two places, of which one may be another field's", func(all []VMCS) {
			put(all, vmcs.GuestCR3, place, false, all[0].Values[0].Want, all[1].Values[0].Want, all[2].Values[0].Want)
		}, vmcs.GuestCR3, false},
		{"overlapping another", func(all []VMCS) {
			put(all, vmcs.GuestCR3, place, false, 0x123456789abcdef0, 0x123456789abcdef1)
			put(all, vmcs.PinBasedVMExecControl, 0, false, 0x12345678, 0x12345678)
		}, vmcs.PinBasedVMExecControl, false},
		{"in the last bytes of the page", func(all []VMCS) { put(all, vmcs.GuestRIP, 4088, false, 0x123456789, 0x923456781) }, vmcs.GuestRIP, true},
		{"of 16 bits", func(all []VMCS) { put(all, vmcs.VirtualProcessorID, 4094, false, 7, 9) }, vmcs.VirtualProcessorID, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := host(3)
			tt.change(all)
			l := Layout(all)
			if l == nil {
				t.Fatal("nothing was learnt")
			}
			claimed := slices.ContainsFunc(l.Entries, func(e vmcs.Entry) bool { return e.Encoding == tt.field })
			if claimed != tt.want {
				t.Errorf("claimed: %v, want %v: %v", claimed, tt.want, l.Entries)
			}
		})
	}
}

// Which pages count.
func TestPages(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(all []VMCS) []VMCS
		want   bool
	}{
		{"two sound pages", func(all []VMCS) []VMCS { return all }, true},
		{"none", func([]VMCS) []VMCS { return nil }, false},
		{"one that is stale is left out", func(all []VMCS) []VMCS {
			all[1].Page = make([]byte, vmcs.PageSize)
			return all
		}, true},
		{"all are stale", func(all []VMCS) []VMCS {
			all[0].Page, all[1].Page = all[1].Page, all[0].Page
			return all
		}, false},
		{"one of another revision identifier is left out", func(all []VMCS) []VMCS {
			other := host(3)[2]
			other.Page[0] = 1
			other.Page[16]++
			return append(all, other)
		}, true},
		{"shadow VMCSs have the same revision identifier", func(all []VMCS) []VMCS {
			all[0].Page[3] = 0x80
			return all
		}, true},
		{"half a page", func(all []VMCS) []VMCS {
			for i := range all {
				all[i].Page = all[i].Page[:2048]
			}
			return all
		}, false},
		{"no value tells whether a page is stale", func(all []VMCS) []VMCS {
			for i := range all {
				all[i].Values[0].Must = false
			}
			return all
		}, false},
		{"too few fields", func(all []VMCS) []VMCS {
			for i := range all {
				all[i].Values = all[i].Values[:7]
			}
			return all
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if l := Layout(tt.change(host(2))); (l != nil) != tt.want {
				t.Errorf("learnt %+v", l)
			}
		})
	}
}

// The form of access rights is told only if one alone fits.
func TestRights(t *testing.T) {
	for _, form := range []vmcs.AccessRights{vmcs.RightsPlain, vmcs.RightsRotated, vmcs.RightsPacked} {
		for _, tt := range []struct {
			name string
			rest byte // what lies around them
			want vmcs.AccessRights
		}{
			{"zeros around", 0, vmcs.RightsUnknown},
			{"others around", 0x5a, form},
		} {
			t.Run(form.String()+", "+tt.name, func(t *testing.T) {
				all := host(2)
				for i, rights := range []uint32{0x1c0f3, 0xa09b} {
					for j := 0x7f0; j < 0x830; j++ {
						all[i].Page[j] = tt.rest + byte(3*i)*min(tt.rest, 1)
					}
					copy(all[i].Page[0x800:0x800+form.Width()], binary.LittleEndian.AppendUint32(nil, form.Encode(rights)))
					all[i].Values = append(all[i].Values, Value{Field: vmcs.GuestSSARBytes, Want: uint64(rights)})
				}
				l := Layout(all)
				if tt.rest == 0 && form == vmcs.RightsPacked {
					tt.want = form // no other has the unusable bit there
				}
				if l == nil || l.AccessRights != tt.want {
					t.Fatalf("%+v, want %v", l, tt.want)
				}
				e, ok := l.Lookup("GUEST_SS_AR_BYTES")
				if ok != (tt.want != vmcs.RightsUnknown) || ok && (e.Offset != 0x800 || e.Width != form.Width()) {
					t.Errorf("%+v", e)
				}
			})
		}
	}
}

// Nothing that is claimed overlaps, or has another value in a page.
func FuzzLayout(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint64(0x123456), uint8(2))
	f.Fuzz(func(t *testing.T, noise []byte, want uint64, n uint8) {
		all := host(int(n%8) + 1)
		for i := range all {
			copy(all[i].Page[80+i:], noise)
			for j, b := range noise[:min(len(noise), 64)] {
				all[i].Values = append(all[i].Values, Value{Field: vmcs.Encoding(b)<<8 | vmcs.Encoding(j)<<1, Want: want >> (b % 64), Ignore: uint64(b), Sure: b&1 != 0})
			}
		}
		l := Layout(all)
		if l == nil {
			return
		}
		used := make([]bool, vmcs.PageSize)
		for _, e := range l.Entries {
			for i := e.Offset; i < e.Offset+e.Width; i++ {
				if i < first || used[i] {
					t.Fatalf("%+v overlaps another", e)
				}
				used[i] = true
			}
			for _, v := range all {
				for _, value := range v.Values {
					got, _ := (&vmcs.VMCS{Page: v.Page, Layout: l}).Value(e)
					if value.Field == e.Encoding && !e.Encoding.Rights() && (got^value.Want)<<(64-8*e.Width)&^(value.Ignore<<(64-8*e.Width)) != 0 {
						t.Fatalf("%+v is %#x, and not %#x", e, got, value.Want)
					}
				}
			}
		}
	})
}
