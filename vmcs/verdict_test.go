package vmcs

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcsnote/internal/x86"
)

// host is a dump that tests change.
type host struct {
	memory
	note *Layout
	truth
}

func loadHost(t testing.TB, name string) host {
	h := host{loadMemory(t, "vmx/"+name+"/mini"), loadNote(t, "vmx/"+name), loadTruth(t, "vmx/"+name)}
	h.note.SetAccessRights(RightsRotated)
	return h
}

// vmcs returns the VMCS of a guest's virtual CPU, its page being h's.
func (h host) vmcs(guest string) *VMCS {
	i := slices.IndexFunc(h.VMCSs, func(v struct {
		PA     uint64
		Guest  string
		Fields map[string]uint64
	}) bool {
		return v.Guest == guest
	})
	addr := h.VMCSs[i].PA
	return &VMCS{addr, h.memory[addr], h.note}
}

func (v *VMCS) set(name string, value uint64) {
	e, ok := v.Layout.Lookup(name)
	if !ok {
		panic(name)
	}
	put(v.Page[e.Offset:], e.Width, value)
}

// get returns a field that the layout has.
func (v *VMCS) get(name string) uint64 {
	value, ok := v.Field(name)
	if !ok {
		panic(name)
	}
	return value
}

// TestVerdict changes one VMCS of five, or what it leads to.
func TestVerdict(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name    string
		change  func(h host, v *VMCS)
		verdict Verdict
	}{
		{"as it was", func(host, *VMCS) {}, Live},
		{"a VMX abort", func(_ host, v *VMCS) { put(v.Page[4:], 4, 5) }, Live},
		{"an abort indicator that is none", func(_ host, v *VMCS) { put(v.Page[4:], 4, 0x58b0b00) }, Rejected},
		{"no link pointer", func(_ host, v *VMCS) { v.set("VMCS_LINK_POINTER", 0) }, Rejected},
		{"HOST_CR4 without VMXE", func(_ host, v *VMCS) { v.set("HOST_CR4", 0x1706b0) }, Rejected},
		{"HOST_CR0 without paging", func(_ host, v *VMCS) { v.set("HOST_CR0", 0x50033) }, Rejected},
		{"HOST_CR3 0", func(_ host, v *VMCS) { v.set("HOST_CR3", 0) }, Rejected},
		{"HOST_CR3 of a process with linear-address masking", func(_ host, v *VMCS) { v.set("HOST_CR3", v.get("HOST_CR3")|1<<62) }, Live},
		{"HOST_RIP not canonical", func(_ host, v *VMCS) { v.set("HOST_RIP", 0x8800_0000_0000_0000) }, Rejected},
		{"RFLAGS without bit 1", func(_ host, v *VMCS) { v.set("GUEST_RFLAGS", 0x200) }, Rejected},
		{"an activity state that is none", func(_ host, v *VMCS) { v.set("GUEST_ACTIVITY_STATE", 4) }, Rejected},
		{"EPTP with a reserved bit", func(_ host, v *VMCS) { v.set("EPT_POINTER", v.get("EPT_POINTER")|0x100) }, Rejected},
		{"EPTP with supervisor shadow stacks", func(_ host, v *VMCS) { v.set("EPT_POINTER", v.get("EPT_POINTER")|0x80) }, Live},
		{"no control as it must be", func(_ host, v *VMCS) {
			for _, name := range []string{"PIN_BASED_VM_EXEC_CONTROL", "CPU_BASED_VM_EXEC_CONTROL", "VM_EXIT_CONTROLS", "VM_ENTRY_CONTROLS"} {
				v.set(name, 0)
			}
		}, Live}, // by all the rest
		{"nothing but what is demanded", func(_ host, v *VMCS) {
			for _, e := range v.Layout.Entries {
				switch e.Name {
				case "VMCS_LINK_POINTER", "HOST_CR0", "HOST_CR3", "HOST_CR4", "HOST_RIP", "GUEST_RFLAGS", "GUEST_CR0", "GUEST_CR4", "GUEST_ACTIVITY_STATE", "EPT_POINTER":
				default:
					put(v.Page[e.Offset:], e.Width, 0xdead_beef_5555_7777)
				}
			}
		}, Rejected},
		{"halted", func(_ host, v *VMCS) { v.set("GUEST_ACTIVITY_STATE", 1) }, Live},
		{"a virtual CPU that has not run yet", func(_ host, v *VMCS) {
			v.set("EPT_POINTER", 0)
			v.set("HOST_RSP", 0)
			v.set("VM_EXIT_REASON", 0)
			v.set("GUEST_RIP", 0xfff0)
			v.set("GUEST_CR0", 0x60000030)
			v.set("VM_ENTRY_CONTROLS", 0x11ff)
		}, Live},
		{"the process has ended", func(h host, v *VMCS) { clear(h.memory[v.get("HOST_CR3")&^0xfff][:PageSize/2]) }, Stale},
		{"its page table is cleared", func(h host, v *VMCS) { clear(h.memory[v.get("HOST_CR3")&^0xfff]) }, Stale},
		{"its page table is used for something else", func(h host, v *VMCS) { copy(h.memory[v.get("HOST_CR3")&^0xfff], randomPage(rng, 1)) }, Stale},
		{"its page table is left out of the dump", func(h host, v *VMCS) { delete(h.memory, v.get("HOST_CR3")&^0xfff) }, Stale},
		{"Xen's, which has no process", func(h host, v *VMCS) {
			v.set("HOST_RIP", 0xffff82d0_40200000)
			clear(h.memory[v.get("HOST_CR3")&^0xfff][:PageSize/2])
		}, Live},
		{"VMware's, likewise", func(h host, v *VMCS) {
			v.set("HOST_RIP", 0xffffffff_fc0a1234)
			clear(h.memory[v.get("HOST_CR3")&^0xfff][:PageSize/2])
		}, Live},
		{"the EPT is used for something else", func(h host, v *VMCS) { copy(h.memory[v.get("EPT_POINTER")&^0xfff], randomPage(rng, 1)) }, Stale},
		{"the EPT is emptied", func(h host, v *VMCS) { clear(h.memory[v.get("EPT_POINTER")&^0xfff]) }, Live},
		{"the EPT is left out of the dump", func(h host, v *VMCS) { delete(h.memory, v.get("EPT_POINTER")&^0xfff) }, Stale},
		{"a link to no VMCS", func(h host, v *VMCS) { v.set("VMCS_LINK_POINTER", v.get("HOST_CR3")&^0xfff) }, Rejected},
		{"a link out of the dump", func(_ host, v *VMCS) { v.set("VMCS_LINK_POINTER", 0x7777_7000) }, Live},
		{"marked as a shadow VMCS", func(_ host, v *VMCS) { v.Page[3] |= 0x80 }, Shadow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := loadHost(t, "hsw-default")
			v := h.vmcs("A.0")
			tt.change(h, v)
			res := find(t, h.memory, Search{Note: h.note})
			live := len(h.VMCSs) - 1
			if tt.verdict == Live {
				live++
			}
			if len(res.VMCSs) != live {
				t.Errorf("%d live VMCSs, expected %d", len(res.VMCSs), live)
			}
			all := append(slices.Clone(res.VMCSs), res.Others...)
			i := slices.IndexFunc(all, func(c *Candidate) bool { return c.Addr == v.Addr })
			if i < 0 {
				t.Fatal("the page is not told of")
			}
			if all[i].Verdict != tt.verdict {
				t.Errorf("%v, expected %v", all[i].Verdict, tt.verdict)
				logChecks(t, all[i:i+1])
			}
			if tt.verdict == Rejected && !slices.ContainsFunc(all[i].Checks, func(c Check) bool { return c.Answer == No }) {
				t.Error("no reason given")
			}
		})
	}
}

// TestPartial is on dumps without the page tables of all VMCSs, or of some.
func TestPartial(t *testing.T) {
	h := loadHost(t, "hsw-default")
	drop := func(guest string) {
		v := h.vmcs(guest)
		delete(h.memory, v.get("HOST_CR3")&^0xfff)
		delete(h.memory, v.get("EPT_POINTER")&^0xfff)
	}
	for guest := range map[string]int{"A.0": 0, "B.0": 0, "D.0": 0} {
		drop(guest)
	}
	for _, tt := range []struct {
		name   string
		search Search
		live   int
	}{
		{"free pages left out", Search{Note: h.note}, 2},
		{"cut off", Search{Note: h.note, Partial: true}, 5},
		{"a guest's", Search{Note: h.note, Nested: true}, 5},
	} {
		if res := find(t, h.memory, tt.search); len(res.VMCSs) != tt.live || res.Trials[0].Live != tt.live {
			t.Errorf("%s: %d VMCSs, expected %d", tt.name, len(res.VMCSs), tt.live)
		}
	}
	drop("C.0") // and C.1
	if res := find(t, h.memory, Search{Note: h.note}); len(res.VMCSs) != 5 {
		t.Errorf("no page tables in the dump: %d VMCSs, expected 5", len(res.VMCSs))
	}
}

// TestShadow is on a guest that is a hypervisor, with VMCS shadowing.
func TestShadow(t *testing.T) {
	h := loadHost(t, "hsw-default")
	const addr = 0x7777_0000
	h.memory[addr] = make([]byte, PageSize)
	binary.LittleEndian.PutUint32(h.memory[addr], h.note.RevisionID|1<<31)
	h.vmcs("C.0").set("VMCS_LINK_POINTER", addr)
	res, err := Find(t.Context(), h.memory, Search{Note: h.note})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.VMCSs) != 5 || len(res.Others) != 1 || res.Others[0].Addr != addr || res.Others[0].Verdict != Shadow || !res.Others[0].Shadow() {
		t.Errorf("%d VMCSs, others %+v", len(res.VMCSs), res.Others)
	}
}

// TestNestedOutnumber is on a host of a hypervisor that has more guests than
// the host, without a note: what that keeps for them lies in the host's memory
// too.
func TestNestedOutnumber(t *testing.T) {
	for _, tables := range []string{"left out", "zero"} {
		h := loadHost(t, "hsw-default")
		inner := BuiltinFor(0x11e57ed0)[1]
		for i := range uint64(20) {
			v := &VMCS{Page: transplant{h.note, inner, inner.RevisionID}.page(h.vmcs("A.0").Page), Layout: inner}
			cr3 := 0x7a00_0000 + i<<16 // where it is in the guest's memory
			v.set("HOST_CR3", cr3)
			v.set("EPT_POINTER", cr3+0x405e)
			if tables == "zero" {
				h.memory[cr3], h.memory[cr3+0x4000] = make([]byte, PageSize), make([]byte, PageSize)
			}
			h.memory[0x6600_0000+i<<12] = v.Page
		}
		for _, partial := range []bool{false, true} {
			res := find(t, h.memory, Search{Partial: partial})
			if res.Layout.Name != "bochs-2.8-to-3.0" || len(res.VMCSs) != 5 || len(res.Ambiguous()) > 0 {
				t.Errorf("%s: layout %s, %d VMCSs", tables, res.Layout.Name, len(res.VMCSs))
			}
			if second := res.Trials[1]; second.Layout.Name != inner.Name || second.Live != 20 {
				t.Errorf("%s: %+v", tables, second)
			}
		}
	}
}

// TestMappedPage is on page tables that map the VMCS's page.
func TestMappedPage(t *testing.T) {
	h := loadHost(t, "hsw-default")
	v := h.vmcs("A.0")
	h.memory.entry(v.get("HOST_CR3")&^0xfff, 273, 0x7777_0000|3)
	h.memory.entry(0x7777_0000, 0, 0x83)
	res := find(t, h.memory, Search{Note: h.note})
	for _, c := range res.VMCSs {
		i := slices.IndexFunc(c.Checks, func(k Check) bool { return k.Name == "HOST_CR3's page tables" })
		want := Undecided
		if c.Addr == v.Addr {
			want = Yes
		}
		if k := c.Checks[i]; k.Answer != want || want == Yes && k.Value != 0xffff888000000000+v.Addr {
			t.Errorf("%#x: %+v", c.Addr, k)
		}
	}
}

// TestNoteOfAnother is on a note that fits none of the pages.
func TestNoteOfAnother(t *testing.T) {
	h := loadHost(t, "hsw-default")
	wrong, _ := shuffled(h.note, rand.New(rand.NewPCG(3, 4)), h.note.RevisionID, RightsPlain)
	res := find(t, h.memory, Search{Note: wrong})
	if len(res.VMCSs) != 5 || res.Layout.Form != FormBuiltin || res.Trials[0].Layout != res.Layout {
		t.Errorf("%d VMCSs", len(res.VMCSs))
	}
	wrong.RevisionID = 0x99
	res = find(t, h.memory, Search{Note: wrong})
	if len(res.VMCSs) != 0 || res.Layout != nil || res.Matched != 0 || len(res.Strangers) != 0 {
		t.Errorf("%d VMCSs, %d pages matched with another revision identifier", len(res.VMCSs), res.Matched)
	}
}

// TestNoteWithoutID is on a layout from a directory that states no revision
// identifier.
func TestNoteWithoutID(t *testing.T) {
	h := loadHost(t, "hsw-default")
	h.note.RevisionID = 0
	addDecoys(h.memory, &Layout{RevisionID: 7}, rand.New(rand.NewPCG(5, 6)))
	compare(t, find(t, h.memory, Search{Note: h.note}), h.truth)
}

// TestFewFields is on a layout that could be anything.
func TestFewFields(t *testing.T) {
	h := loadHost(t, "hsw-default")
	h.note.Entries = slices.DeleteFunc(h.note.Entries, func(e Entry) bool { return e.Name != "GUEST_RIP" && e.Name != "GUEST_RFLAGS" })
	h.note.RevisionID = 0x123456 // no built-in layout's
	for _, v := range h.VMCSs {
		binary.LittleEndian.PutUint32(h.memory[v.PA], 0x123456)
	}
	if res := find(t, h.memory, Search{Note: h.note}); len(res.VMCSs) != 0 || res.Matched != 5 {
		t.Errorf("%d VMCSs out of two fields", len(res.VMCSs))
	}
}

// TestStrangers is on VMCSs of which nothing is known.
func TestStrangers(t *testing.T) {
	for _, name := range vmxCores {
		h := loadHost(t, name)
		to, _ := shuffled(h.note, rand.New(rand.NewPCG(7, 8)), 0x4e, RightsPacked)
		for _, v := range h.VMCSs {
			h.memory[v.PA] = transplant{h.note, to, 0x4e}.page(h.memory[v.PA])
		}
		addDecoys(h.memory, to, rand.New(rand.NewPCG(9, 10)))
		res := find(t, h.memory, Search{})
		if !slices.Equal(res.Strangers, []Stranger{{0x4e, 5}}) || res.Layout != nil {
			t.Errorf("%s: strangers %+v, layout %v", name, res.Strangers, res.Layout)
		}
	}
}

func TestBallot(t *testing.T) {
	h := loadHost(t, "hsw-default")
	for rights := RightsPlain; rights <= RightsPacked; rights++ {
		for _, guest := range []string{"A.0", "D.0"} { // one page is enough
			to, _ := shuffled(h.note, rand.New(rand.NewPCG(11, 12)), 1, rights)
			var b ballot
			b.vote(to, transplant{h.note, to, 1}.page(h.vmcs(guest).Page))
			if w := b.winner(RightsUnknown); w != rights {
				t.Errorf("%s: %v, expected %v: votes %v", guest, w, rights, b)
			}
		}
	}
	if b := (ballot{0, 3, 0, 3}); b.winner(RightsPacked) != RightsPacked || b.winner(RightsRotated) != RightsPlain || b.winner(RightsUnknown) != RightsPlain {
		t.Error("a tie")
	}
	if b := (ballot{}); b.winner(RightsPacked) != RightsPacked || b.winner(RightsUnknown) != RightsUnknown {
		t.Error("no votes")
	}
}

// TestDecoys is on a host whose memory somebody has filled with copies of a
// VMCS, more than a result has: they push no real one out.
func TestDecoys(t *testing.T) {
	const table = 0x7fff_f000 // that maps nothing of the kernel's
	note := loadNote(t, "vmx/deb27-package-kdump")
	for name, decoy := range map[string]func(v *VMCS, i int){
		"copies to the byte":                  func(*VMCS, int) {},
		"HOST_CR3 leads nowhere":              func(v *VMCS, i int) { v.set("HOST_CR3", 0x7f00_0000_0000+uint64(i)*PageSize) },
		"HOST_CR3 leads to a made-up process": func(v *VMCS, i int) { v.set("HOST_CR3", table) },
	} {
		t.Run(name, func(t *testing.T) {
			m := loadMemory(t, "vmx/guests-ended/mini")
			m[table] = make([]byte, PageSize)
			put(m[table], 8, 0x7fff_e067)
			mapMore(m, (&VMCS{Page: m[0x1e647000], Layout: note}).get("HOST_CR3"))
			for i := range 2*MaxVMCSs + 1 {
				v := VMCS{Page: slices.Clone(m[0x1e647000]), Layout: note}
				decoy(&v, i)
				m[uint64(i)*PageSize+512<<20] = v.Page
			}
			res := find(t, m, Search{Note: note, VMCOREINFO: endedInfo})
			for addr, verdict := range endedVerdicts {
				if verdict == Live && !slices.ContainsFunc(res.VMCSs, func(c *Candidate) bool { return c.Addr == addr }) {
					t.Errorf("%#x is not found", addr)
				}
			}
			if res.Dropped < MaxVMCSs {
				t.Errorf("%d dropped", res.Dropped)
			}
		})
	}
}

// mapMore lets the direct map of the kernel whose page tables are at cr3 have
// the 512 MiB after the dump's own.
func mapMore(m memory, cr3 uint64) {
	base := uint64(0xffff_8880_0000_0000)
	table := cr3 & x86.AddrMask
	for _, shift := range []int{39, 30} {
		table = binary.LittleEndian.Uint64(m[table][base>>shift&(x86.Entries-1)*8:]) & x86.AddrMask
	}
	for i := uint64(256); i < x86.Entries; i++ {
		put(m[table][8*i:], 8, i<<21|x86.Large|0x63)
	}
}
