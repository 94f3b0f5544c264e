package vmcs

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// endedInfo is VMCOREINFO of vmx/guests-ended, what is read of it.
const endedInfo = `OSRELEASE=6.1.0-56-cloud-amd64
PAGESIZE=4096
SYMBOL(mem_section)=ffff88801e529000
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
NUMBER(MAX_PHYSMEM_BITS)=46
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
NUMBER(PG_lru)=4
`

// endedVerdicts are those of vmx/guests-ended: a host where two of six virtual
// CPUs' processes had been killed, and the pages in which the layout had been
// found out were kept. All other pages are rejected.
var endedVerdicts = map[uint64]Verdict{
	0x1e647000: Live, 0x1f3c9000: Live, 0x1f38c000: Live, 0x1fc59000: Live,
	0x1efa0000: Stale, 0x1fc12000: Stale,
}

// TestGuestsEnded is on a real dump that has the page tables by which the
// kernel maps each VMCS, and its struct page.
func TestGuestsEnded(t *testing.T) {
	m := loadMemory(t, "vmx/guests-ended/mini")
	for _, s := range []Search{{Note: loadNote(t, "vmx/deb27-package-kdump")}, {}, {VMCOREINFO: endedInfo}} {
		res := find(t, m, s)
		if len(res.VMCSs) != 4 || res.Matched < 15 {
			t.Errorf("%d live VMCSs of %d pages", len(res.VMCSs), res.Matched)
		}
		for _, c := range append(res.VMCSs, res.Others...) {
			verdict := endedVerdicts[c.Addr]
			if c.Verdict != verdict {
				t.Errorf("%#x: %v, expected %v", c.Addr, c.Verdict, verdict)
			}
			if verdict == Rejected {
				continue
			}
			if k := c.check("HOST_CR3's page tables"); k.Answer != Yes || k.Value != 0xffff888000000000+c.Addr {
				t.Errorf("%#x: not mapped by its HOST_CR3: %+v", c.Addr, k)
			}
			if k := c.check("struct page of the VMCS"); s.VMCOREINFO != "" && k.Answer != answer(verdict == Live) {
				t.Errorf("%#x: %+v", c.Addr, k)
			}
		}
	}
}

// check returns the first check of that name.
func (c *Candidate) check(name string) Check {
	if i := slices.IndexFunc(c.Checks, func(k Check) bool { return k.Name == name }); i >= 0 {
		return c.Checks[i]
	}
	return Check{}
}

// TestMemMap is on the same, when the page tables of what has ended belong to
// processes that live: nothing but the kernel's list of pages tells.
func TestMemMap(t *testing.T) {
	const live, stale = 0x1f38c000, 0x1efa0000
	note := loadNote(t, "vmx/deb27-package-kdump")
	for _, tt := range []struct {
		name    string
		info    string
		change  func(page []byte) // of the stale VMCS's struct page
		verdict Verdict
	}{
		{"free", endedInfo, func([]byte) {}, Stale},
		{"no VMCOREINFO", "", func([]byte) {}, Live},
		{"used by the kernel", endedInfo, func(page []byte) { put(page[52:], 4, 1) }, Live},
		{"a process's", endedInfo, func(page []byte) { put(page[52:], 4, 1); put(page[24:], 8, 0xffff888012345679) }, Stale},
		{"on a list of pages to reclaim", endedInfo, func(page []byte) { put(page[52:], 4, 1); page[0] |= 1 << 4 }, Stale},
		{"left out of the dump, as zeros", endedInfo, func(page []byte) { clear(page) }, Live},
		{"less in VMCOREINFO", strings.Replace(endedInfo, "SIZE(page)=64\n", "", 1), func([]byte) {}, Live},
		{"struct pages of 7 bytes", strings.Replace(endedInfo, "SIZE(page)=64", "SIZE(page)=7", 1), func([]byte) {}, Live},
		{"sections of no size", strings.Replace(endedInfo, "SIZE(mem_section)=16", "SIZE(mem_section)=0", 1), func([]byte) {}, Live},
		{"sections elsewhere", strings.Replace(endedInfo, "ffff88801e529000", "ffff88801e647000", 1), func([]byte) {}, Live},
		{"nonsense", strings.ReplaceAll(endedInfo, "=", "=99999999999999999999"), func([]byte) {}, Live},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := loadMemory(t, "vmx/guests-ended/mini")
			from, to := VMCS{live, m[live], note}, VMCS{stale, m[stale], note}
			to.set("HOST_CR3", from.get("HOST_CR3"))
			to.set("EPT_POINTER", from.get("EPT_POINTER"))
			tables := hostTables{r: m, memMap: newMemMap(endedInfo)}
			// mem_section says where the struct pages are; the stale one's is
			// at vmemmap, ffffea0000000000, 64 bytes a page.
			frame := tables.translate(pageTables[4], from.get("HOST_CR3"), 0xffffea0000000000+stale/PageSize*64)
			if frame == ^uint64(0) || binary.LittleEndian.Uint32(m[frame&^(PageSize-1)][frame%PageSize+48:]) == 0 {
				t.Fatalf("struct page at %#x", frame)
			}
			tt.change(m[frame&^(PageSize-1)][frame%PageSize:][:64])
			res := find(t, m, Search{Note: note, VMCOREINFO: tt.info})
			for _, c := range append(res.VMCSs, res.Others...) {
				if c.Addr == stale && c.Verdict != tt.verdict || c.Addr == live && c.Verdict != Live {
					t.Errorf("%#x: %v", c.Addr, c.Verdict)
					logChecks(t, []*Candidate{c})
				}
			}
		})
	}
}

// TestReset is on the same, with a virtual CPU that has been reset and not run
// since: KVM has freed the EPT that EPT_POINTER leads to.
func TestReset(t *testing.T) {
	const addr, freed = 0x1f38c000, 0x7777_0000
	note := loadNote(t, "vmx/deb27-package-kdump")
	noise := randomPage(rand.New(rand.NewPCG(1, 1)), 1)
	for _, tt := range []struct {
		name    string
		info    string
		ept     []byte                               // what has become of its page; nil: left out of the dump
		change  func(v *VMCS, m memory, page []byte) // page is the VMCS's struct page
		verdict Verdict
	}{
		{"used for something else", endedInfo, noise, func(*VMCS, memory, []byte) {}, Live},
		{"no VMCOREINFO", "", noise, func(*VMCS, memory, []byte) {}, Live},
		{"left out of the dump", endedInfo, nil, func(*VMCS, memory, []byte) {}, Live},
		{"the struct page left out, as zeros", endedInfo, noise, func(_ *VMCS, _ memory, page []byte) { clear(page) }, Live},
		{"the VMCS freed", endedInfo, noise, func(_ *VMCS, _ memory, page []byte) { put(page[52:], 4, 0) }, Stale},
		{"the VMCS is a process's memory, and no other is the kernel's", endedInfo, noise, func(v *VMCS, m memory, page []byte) {
			for other := range endedVerdicts {
				if other != v.Addr {
					delete(m, other)
				}
			}
			put(page[24:], 8, 0xffff888012345679)
		}, Stale},
		{"the process ended", "", noise, func(v *VMCS, m memory, _ []byte) { clear(m[v.get("HOST_CR3")&^0xfff][:PageSize/2]) }, Stale},
		{"no page tables of the kernel's", "", noise, func(v *VMCS, m memory, _ []byte) { clear(m[v.get("HOST_CR3")&^0xfff][PageSize/2:]) }, Stale},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := loadMemory(t, "vmx/guests-ended/mini")
			v := &VMCS{addr, m[addr], note}
			tables := hostTables{r: m}
			frame := tables.translate(pageTables[4], v.get("HOST_CR3"), 0xffffea0000000000+addr/PageSize*64)
			v.set("EPT_POINTER", freed|v.get("EPT_POINTER")&0xfff)
			if tt.ept != nil {
				m[freed] = slices.Clone(tt.ept)
			}
			tt.change(v, m, m[frame&^(PageSize-1)][frame%PageSize:][:64])
			res := find(t, m, Search{Note: note, VMCOREINFO: tt.info})
			for _, c := range append(res.VMCSs, res.Others...) {
				if want := endedVerdicts[c.Addr]; c.Addr == addr && c.Verdict != tt.verdict || c.Addr != addr && c.Verdict != want {
					t.Errorf("%#x: %v", c.Addr, c.Verdict)
					logChecks(t, []*Candidate{c})
				}
				if k := c.check("EPT_POINTER's page"); c.Addr == addr && (k.Answer != No || tt.verdict == Live && k.Fails != Live) {
					t.Errorf("%+v", k)
				}
			}
		})
	}
}

func FuzzMemMap(f *testing.F) {
	f.Add(endedInfo, uint64(0x1efa0000))
	f.Add(strings.ReplaceAll(endedInfo, "16", "2048"), uint64(1<<51))
	f.Add(strings.ReplaceAll(endedInfo, "64", "4096"), uint64(0))
	m := loadMemory(f, "vmx/guests-ended/mini")
	f.Fuzz(func(t *testing.T, info string, addr uint64) {
		if mm := newMemMap(info); mm != nil {
			mm.owner(&hostTables{r: m, memMap: mm}, 0x1ef3a000, addr, 4)
			mm.owner(&hostTables{r: m, memMap: mm}, 0x1ef3a000, addr, 5)
		}
	})
}

// TestMemMapOnce: VMCOREINFO may have a MiB, and there may be thousands of
// layouts: it is parsed once, and lines that do not matter cost nothing.
func TestMemMapOnce(t *testing.T) {
	text := strings.Repeat("x=\n", 300_000) + endedInfo
	if n := testing.AllocsPerRun(1, func() {
		if newMemMap(text) == nil {
			t.Error("not parsed")
		}
	}); n > 10 {
		t.Errorf("%v allocations", n)
	}
	f := newFinder(nil, Search{VMCOREINFO: text})
	f.giveTables()
	if len(f.plans) < 2 {
		t.Fatalf("%d layouts", len(f.plans))
	}
	for _, p := range f.plans {
		if p.tables.memMap == nil || p.tables.memMap != f.plans[0].tables.memMap {
			t.Fatal("parsed once more")
		}
	}
}
