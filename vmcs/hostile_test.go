package vmcs

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"vmcsnote/physmem"
)

// crowd is memory of as many pages as one likes, made when they are read.
type crowd struct {
	page func(addr uint64) []byte
}

func (c crowd) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		n += copy(p[n:], c.page(at &^ (PageSize - 1))[at%PageSize:])
	}
	return n, nil
}

// peak runs f, and gives how much the heap grew meanwhile.
func peak(f func()) uint64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	done := make(chan struct{})
	go func() { f(); close(done) }()
	var most uint64
	for {
		select {
		case <-done:
			return most
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&now)
			if now.HeapAlloc > before.HeapAlloc {
				most = max(most, now.HeapAlloc-before.HeapAlloc)
			}
		}
	}
}

// TestCrowds is on dumps of more pages than a search may keep, all of which
// begin like a VMCS.
func TestCrowds(t *testing.T) {
	const pages = 20_000 // they have 80 MiB, more than the search may take
	h := loadHost(t, "hsw-default")
	rng := rand.New(rand.NewPCG(1, 1))
	var noise [64][]byte
	for i := range noise {
		noise[i] = randomPage(rng, h.note.RevisionID)
		clear(noise[i][4:8])
	}
	genuine := h.vmcs("A.0")
	// Page tables that are sane and lead everywhere.
	loops := make([]byte, PageSize)
	for i := 0; i < PageSize; i += 8 {
		binary.LittleEndian.PutUint64(loops[i:], 0x7777_7003)
	}
	cr3, ept := genuine.get("HOST_CR3")&^0xfff, genuine.get("EPT_POINTER")&^0xfff
	looping := func(addr uint64) []byte {
		if addr == cr3 || addr == ept || addr == 0x7777_7000 {
			return loops
		}
		return genuine.Page
	}
	small := append([]byte{1}, make([]byte, PageSize-1)...)
	for _, tt := range []struct {
		name   string
		page   func(addr uint64) []byte
		search Search
		live   int
	}{
		{"noise", func(addr uint64) []byte { return noise[addr>>12&63] }, Search{Note: h.note}, 0},
		{"noise, without a note", func(addr uint64) []byte { return noise[addr>>12&63] }, Search{}, 0},
		{"VMCSs, page tables that are VMCSs", func(uint64) []byte { return genuine.Page }, Search{Note: h.note}, 0},
		{"VMCSs, page tables that loop", looping, Search{Note: h.note, Explain: true}, MaxVMCSs},
		{"VMCSs, without a note", looping, Search{}, MaxVMCSs},
		{"pages of a small number", func(uint64) []byte { return small }, Search{Nested: true}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			var res *Result
			most := peak(func() {
				var err error
				if res, err = Find(t.Context(), physmem.With(crowd{tt.page}, rangesOf(physmem.Range{Addr: 0x1_0000_0000, Size: pages * PageSize})), tt.search); err != nil {
					t.Error(err)
				}
			})
			t.Logf("%v, %d KiB", time.Since(begin), most>>10)
			if len(res.VMCSs) != tt.live || res.Matched != pages {
				t.Errorf("%d VMCSs of %d pages", len(res.VMCSs), res.Matched)
			}
			if tt.live > 0 && (res.Dropped != pages-MaxVMCSs || res.VMCSs[0].Addr != 0x1_0000_0000 || !slices.IsSortedFunc(res.VMCSs, byAddr)) {
				t.Errorf("%d dropped, the first at %#x", res.Dropped, res.VMCSs[0].Addr)
			}
			if most > 64<<20 {
				t.Errorf("%d MiB of memory", most>>20)
			}
		})
	}
}

func TestShortlist(t *testing.T) {
	s := shortlist{max: 10}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, i := range rng.Perm(1000) {
		s.add(uint64(i)*PageSize, i%3)
	}
	var want []uint64
	for i := range 10 {
		want = append(want, uint64(2+3*i)*PageSize)
	}
	if got := s.addrs(); !slices.Equal(got, want) || s.dropped != 990 {
		t.Errorf("%#x, %d dropped, expected %#x", got, s.dropped, want)
	}
}

// FuzzFind weighs a page of anything by a note of anything.
func FuzzFind(f *testing.F) {
	for _, name := range vmxCores {
		h := loadHost(f, name)
		_, text := shuffled(h.note, rand.New(rand.NewPCG(1, 1)), h.note.RevisionID, RightsPacked)
		for _, guest := range []string{"A.0", "D.0"} {
			f.Add([]byte(text), h.vmcs(guest).Page, uint64(0x1000))
		}
		for _, page := range decoys(h.note, rand.New(rand.NewPCG(2, 2))) {
			f.Add([]byte(text), page, uint64(0xfffff_fffff000))
		}
	}
	f.Add([]byte("REVISION_ID=1\nFIELD(GUEST_RIP)=ff9\n"), make([]byte, 10), uint64(1<<63))
	f.Fuzz(func(t *testing.T, note, data []byte, addr uint64) {
		page := make([]byte, PageSize)
		copy(page, data)
		addr &^= PageSize - 1
		// Whatever the page leads to is the page itself, or is not there.
		m := crowd{func(uint64) []byte { return page }}
		if addr%(2*PageSize) == 0 {
			m = crowd{func(at uint64) []byte {
				if at != addr {
					return make([]byte, PageSize)
				}
				return page
			}}
		}
		layout, err := ParseNote(note)
		if err != nil {
			layout = nil
		} else {
			binary.LittleEndian.PutUint32(page, layout.RevisionID)
		}
		for _, s := range []Search{{Note: layout, Explain: true, VMCOREINFO: endedInfo}, {Nested: true}} {
			res, err := Find(t.Context(), physmem.With(m, rangesOf(physmem.Range{Addr: addr, Size: PageSize})), s)
			if err != nil {
				t.Fatal(err)
			}
			if (res.Layout == nil) != (len(res.VMCSs) == 0 && !slices.ContainsFunc(res.Others, func(c *Candidate) bool { return c.Verdict != Rejected })) {
				t.Errorf("layout %v, %d VMCSs", res.Layout != nil, len(res.VMCSs))
			}
			for _, c := range append(res.VMCSs, res.Others...) {
				decode(&c.VMCS)
			}
		}
		if layout != nil {
			decode(&VMCS{addr, page, layout})
		}
	})
}

// decode makes everything of a VMCS that can be made of it.
func decode(v *VMCS) {
	for _, e := range v.Layout.Entries {
		value, _ := v.Value(e)
		v.Field(e.Name)
		FieldBits(e.Encoding, value)
		ExitReason(uint32(value))
		Interruption(uint32(value))
		RightsText(uint32(value))
		_ = ActivityState(uint32(value))
	}
	_ = v.Mode().String()
	v.ModeEmulated()
	v.Segments()
	v.GuestEFER()
	v.VPID()
	if p, ok := v.EPTPointer(); ok {
		_ = p.Root()
	}
}
