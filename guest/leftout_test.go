package guest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore"
)

// A lacking core lacks a page, as if makedumpfile had left it out. It remembers
// the pages that were read in small pieces.
type lacking struct {
	vmcore.Core
	page  uint64
	pages map[uint64]bool
}

func (c lacking) ReadPhys(p []byte, addr uint64) (int, error) {
	for at := addr &^ 4095; at < addr+uint64(len(p)); at += 4096 {
		if at == c.page {
			n := 0
			if at > addr {
				n, _ = c.Core.ReadPhys(p[:at-addr], addr)
			}
			return n, fmt.Errorf("physical address %#x: %w", max(at, addr), vmcore.ErrExcluded)
		}
		if c.pages != nil && len(p) <= 4096 {
			c.pages[at] = true
		}
	}
	return c.Core.ReadPhys(p, addr)
}

// Pages that makedumpfile took for user memory are told as such, whichever of
// KVM's structures is in them, and what marks the kernel's slabs.
func TestLeftOut(t *testing.T) {
	for name, mark := range map[string]SlabMark{"amd-6.1": SlabFlag, "amd-6.12": SlabType, "amd-7.3": SlabInfo} {
		t.Run(name, func(t *testing.T) {
			core := openCore(t, "linux-host/"+name)
			c := lacking{Core: core, page: 1, pages: map[uint64]bool{}}
			if err := OpenHost(c).FindMachines(context.Background(), MachineSearch{}); err != nil {
				t.Fatal(err)
			}
			told := 0
			pages := slices.Sorted(maps.Keys(c.pages))
			for i := 0; i < len(pages); i += 1 + len(pages)/12 {
				h := OpenHost(lacking{Core: core, page: pages[i]})
				err := h.askKVM(context.Background(), MachineSearch{})
				if err == nil {
					err = h.KVMError
				}
				var left *LeftOutError
				if err == nil {
					continue // a thread's name, a command line
				}
				if told++; !errors.As(err, &left) || left.Mark != mark {
					t.Errorf("page at %#x: %v", pages[i], err)
				}
			}
			if told == 0 {
				t.Errorf("none of %d pages counts", len(pages))
			}
		})
	}
}
