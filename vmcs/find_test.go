package vmcs

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"vmcsnote/physmem"
)

// find looks for VMCSs in m, with the checks kept. What a sieve has kept of the
// memory must lead to the same.
func find(t testing.TB, m memory, s Search) *Result {
	t.Helper()
	s.Explain = true
	res, err := Find(t.Context(), m, s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Note == nil && !s.Nested {
		s.Sieve = sieveOf(t, m)
		if sieved, err := Find(t.Context(), m, s); err != nil || !reflect.DeepEqual(sieved, res) {
			t.Errorf("with a sieve: %+v, %v, want %+v", sieved, err, res)
		}
	}
	return res
}

func sieveOf(t testing.TB, m physmem.Memory) *Sieve {
	t.Helper()
	s := new(Sieve)
	if err := physmem.Scan(t.Context(), m, physmem.ScanOptions{Lost: s.Lost}, s.Look); err != nil {
		t.Fatal(err)
	}
	return s
}

// logChecks shows the checks answered no.
func logChecks(t testing.TB, cs []*Candidate) {
	t.Helper()
	for _, c := range cs {
		t.Logf("%#x: %v, score %d, layout %s", c.Addr, c.Verdict, c.Score, c.Layout.Name)
		for _, k := range c.Checks {
			if k.Answer != Yes {
				t.Logf("  %s %#x: expected %s: %v, weight %d", k.Name, k.Value, k.Want, k.Answer, k.Weight)
			}
		}
	}
}

// compare makes sure that res has exactly the VMCSs of tr, with all their
// fields.
func compare(t *testing.T, res *Result, tr truth) {
	t.Helper()
	if len(res.VMCSs) != len(tr.VMCSs) {
		t.Errorf("%d VMCSs, expected %d", len(res.VMCSs), len(tr.VMCSs))
		logChecks(t, res.Others)
	}
	fields := 0
	for _, want := range tr.VMCSs {
		found := false
		for _, v := range res.VMCSs {
			if v.Addr != want.PA {
				continue
			}
			found = true
			for name, value := range want.Fields {
				if _, ok := v.Layout.Lookup(name); !ok && value == 0 {
					continue // a place holder: this processor does not have the field
				}
				fields++
				e, _ := v.Layout.Lookup(name)
				if got, ok := v.raw(e); !ok || got != value {
					t.Errorf("%#x %s: %#x in the page, expected %#x", v.Addr, name, got, value)
				}
				if got, ok := v.Field(name); !e.Encoding.Rights() && (!ok || got != value) {
					t.Errorf("%#x %s = %#x, expected %#x", v.Addr, name, got, value)
				}
			}
		}
		if !found {
			t.Errorf("%s's VMCS at %#x is not found", want.Guest, want.PA)
		}
	}
	if fields < 100*len(tr.VMCSs) {
		t.Errorf("only %d fields compared", fields)
	}
}

// TestFind is on dumps of KVM hosts with five virtual CPUs and half a dozen
// pages that begin like a VMCS and are none.
func TestFind(t *testing.T) {
	for _, name := range vmxCores {
		t.Run(name, func(t *testing.T) {
			tr := loadTruth(t, "vmx/"+name)
			res := find(t, loadMemory(t, "vmx/"+name+"/mini"), Search{Note: loadNote(t, "vmx/"+name)})
			compare(t, res, tr)
			if res.Layout.AccessRights != RightsRotated || res.Layout.Form != FormOffsets {
				t.Errorf("layout %v, access rights %v", res.Layout.Form, res.Layout.AccessRights)
			}
			for name, text := range tr.Live {
				want, err := strconv.ParseUint(text, 16, 64)
				if err != nil || name == "VMCS_PA" {
					continue
				}
				addr, _ := strconv.ParseUint(tr.Live["VMCS_PA"], 16, 64)
				for _, v := range res.VMCSs {
					if got, ok := v.Field(name); v.Addr == addr && (!ok || got != want) && name != "HOST_CR3" {
						t.Errorf("%s = %#x, VMREAD gave %#x", name, got, want)
					} else if name == "HOST_CR3" && v.Addr == addr && got>>12 != want>>12 {
						t.Errorf("HOST_CR3 = %#x, VMREAD gave %#x", got, want)
					}
				}
			}
		})
	}
}

// TestFindWithoutNote is on the same, by the built-in layouts: they are of an
// emulator whose layouts are published.
func TestFindWithoutNote(t *testing.T) {
	for name, layout := range map[string]string{
		"hsw-default": "bochs-2.8-to-3.0", "penryn-no-ept": "bochs-2.8-to-3.0", "deb27-package-kdump": "bochs-2.4-to-2.7",
	} {
		t.Run(name, func(t *testing.T) {
			res := find(t, loadMemory(t, "vmx/"+name+"/mini"), Search{})
			compare(t, res, loadTruth(t, "vmx/"+name))
			if res.Layout.Name != layout || len(res.Ambiguous()) != 0 || len(res.Strangers) != 0 {
				t.Errorf("layout %s, others %v, strangers %v; expected %s alone", res.Layout.Name, res.Ambiguous(), res.Strangers, layout)
			}
			for i, trial := range res.Trials {
				if trial.Matched == 0 || (trial.Live == 5) != (i == 0) || trial.Layout == res.Layout != (i == 0) {
					t.Errorf("trial %d: %s, %d pages matched, %d VMCSs", i, trial.Layout.Name, trial.Matched, trial.Live)
				}
			}
		})
	}
}

// TestFindLinux is on hosts of a Linux guest; the second one's layout is of no
// known processor.
func TestFindLinux(t *testing.T) {
	for _, tt := range []struct {
		name    string
		addr    uint64
		rights  AccessRights
		builtin bool
	}{
		{"amd64-nokaslr-idle-parked", 0x1ec6f000, RightsRotated, true},
		{"amd64-kaslr-spin-inguest-shuffled", 0x1ec73000, RightsPacked, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, note := loadMemory(t, "linux-guest/"+tt.name+"/host-thin"), loadNote(t, "linux-guest/"+tt.name)
			res := find(t, m, Search{Note: note})
			if len(res.VMCSs) != 1 || res.VMCSs[0].Addr != tt.addr || res.Layout.AccessRights != tt.rights {
				t.Fatalf("%d VMCSs, access rights %v", len(res.VMCSs), res.Layout.AccessRights)
			}
			v := res.VMCSs[0]
			var got strings.Builder
			hexes := func(name string, value uint64, ok bool) {
				if ok {
					fmt.Fprintf(&got, "%s=%x\n", name, value)
				}
			}
			field := func(name string) uint64 { value, _ := v.Field(name); return value }
			hexes("rsp", field("GUEST_RSP"), true)
			hexes("rflags", field("GUEST_RFLAGS"), true)
			hexes("cr3", field("GUEST_CR3"), true)
			cr0, ok := v.GuestCR0()
			hexes("cr0", cr0, ok)
			cr4, ok := v.GuestCR4()
			hexes("cr4", cr4, ok)
			for _, s := range v.Segments() {
				r, name := s.Rights, strings.TrimSuffix(s.Name, "R")
				if s.Name == "TR" {
					name = s.Name
				}
				bit := func(n int) uint32 { return r >> n & 1 }
				fmt.Fprintf(&got, "%s sel=%x base=%x limit=%x type=%x present=%d dpl=%d db=%d s=%d l=%d g=%d avl=%d unusable=%d\n", name,
					s.Selector, s.Base, s.Limit, r&15, bit(7)&^bit(16), r>>5&3, bit(14), bit(4), bit(13), bit(15), bit(12), bit(16))
			}
			fmt.Fprintf(&got, "GDT base=%x limit=%x\n", field("GUEST_GDTR_BASE"), field("GUEST_GDTR_LIMIT"))
			fmt.Fprintf(&got, "IDT base=%x limit=%x\n", field("GUEST_IDTR_BASE"), field("GUEST_IDTR_LIMIT"))
			truth, err := os.ReadFile(testCores + "linux-guest/" + tt.name + "/truth.txt")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(got.String()) {
				if !strings.Contains(string(truth), "\n"+line) {
					t.Errorf("%s is not in truth.txt", strings.TrimSpace(line))
				}
			}
			if n := strings.Count(got.String(), "\n"); n != 15 || v.Mode() != ModeLong {
				t.Errorf("%d lines, mode %v:\n%s", n, v.Mode(), got.String())
			}
			res = find(t, m, Search{})
			if (len(res.VMCSs) == 1) != tt.builtin || (len(res.Strangers) == 1) == tt.builtin {
				t.Errorf("without the note: %d VMCSs, strangers %v", len(res.VMCSs), res.Strangers)
			}
		})
	}
}
