package guest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"vmcsnote/internal/fakelinux"
)

// FuzzAskKVM changes words of a host's kernel: its types, symbols and tables,
// and KVM's structures. Whatever they are, the search ends, and what it found
// can be asked for everything.
func FuzzAskKVM(f *testing.F) {
	core := openCore(f, intelHosts[0].core)
	found := inferred(f, core, noteLayout(f, "../testdata/cores/"+intelHosts[0].layout))
	h := kvmLike(f, core, found, nil)
	h.finish()
	var own []uint64
	for addr := range h.Pages {
		own = append(own, addr)
	}
	slices.Sort(own)
	f.Add(uint16(0), uint16(8), uint64(0), uint16(9), uint16(16), ^uint64(0))
	f.Add(uint16(3), uint16(0), uint64(fakelinux.Direct), uint16(20), uint16(48), uint64(1)<<40)
	f.Fuzz(func(t *testing.T, page1, at1 uint16, word1 uint64, page2, at2 uint16, word2 uint64) {
		k := *h.Kernel
		k.Pages = maps.Clone(h.Pages)
		for _, change := range []struct {
			page, at uint16
			word     uint64
		}{{page1, at1, word1}, {page2, at2, word2}} {
			addr := own[int(change.page)%len(own)]
			k.Pages[addr] = slices.Clone(k.Pages[addr])
			copy(k.Pages[addr][change.at%4096&^7:], fakelinux.LE64(change.word))
		}
		host := OpenHost(fakeCore{nothing{core}, &fakeHost{Kernel: &k, core: core, info: h.info}})
		if err := host.askKVM(context.Background(), MachineSearch{}); err != nil {
			return
		}
		for m := range host.All() {
			m.Hypervisor()
			m.Encryption()
			mem, err := m.Memory()
			if err == nil && !mem.Exceeds(1<<30) {
				mem.Tally()
			}
			for _, v := range m.VCPUs {
				if r, err := m.Virtual(v); err == nil {
					r.ReadPhys(make([]byte, 64), v.RIP().Value)
				}
				v.Mode()
				v.LastExit()
			}
		}
	})
}
