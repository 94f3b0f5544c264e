package infer

import (
	"context"
	"iter"
	"testing"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// A scanned memory remembers whether all of it was asked for.
type scanned struct {
	*fakekvm.Memory
	all bool
}

func (s *scanned) Ranges() iter.Seq[physmem.Range] {
	s.all = true
	return s.Memory.Ranges()
}

// TestNearLists: if the VMCS tells by its lists of MSRs where KVM's structure
// is, only that is searched; otherwise all memory is.
func TestNearLists(t *testing.T) {
	const lists, elsewhere = fakekvm.Pointer + 0x148, 0x700028
	here := func(m *fakekvm.Memory) {
		m.Exact(fakekvm.Array, 0x100)
		m.Point(fakekvm.Pointer, true)
		m.Exact(elsewhere, 0x200) // so that the words alone tell nothing
	}
	there := func(m *fakekvm.Memory) { m.Exact(elsewhere, 0x100) }
	for _, tt := range []struct {
		name        string
		entry, exit uint64
		make        func(*fakekvm.Memory)
		held        string
		scanned     bool
	}{
		{"lists in KVM's structure", lists, lists + 0x90, here, "both", false},
		{"registers that are not near them are of another", lists, lists + 0x90, there, "", false},
		{"no lists", 0, 0, there, "words", true},
		{"lists in pages of their own, as Xen has them", 0x5000000, 0x5001000, there, "words", true},
		{"lists in the other order", lists + 0x90, lists, here, "both", true},
		{"one list for both", lists, lists, here, "both", true},
		{"no addresses of lists", lists + 1, lists + 0x91, here, "both", true},
		{"above all physical addresses", 1<<52 - 0x10, 1 << 52, there, "words", true},
		{"where addresses begin", 0x10, 0xa0, there, "", false},
		{"where addresses end", 1<<52 - 0x90, 1<<52 - 0x10, there, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &scanned{Memory: fakekvm.New()}
			tt.make(m.Memory)
			v := fakekvm.VMCS(fakekvm.VMCSAddr, map[string]uint64{"VM_ENTRY_MSR_LOAD_ADDR": tt.entry, "VM_EXIT_MSR_LOAD_ADDR": tt.exit})
			all, err := Search{Mem: m}.Registers(context.Background(), []*vmcs.VMCS{v})
			if err != nil {
				t.Fatal(err)
			}
			if m.all != tt.scanned {
				t.Errorf("all memory was searched: %v, want %v", m.all, tt.scanned)
			}
			if f := all[0]; f.held() != tt.held || (tt.held != "") != (f.Copies.GPR[0] == 0x100) {
				t.Errorf("by %q, rax %#x; want by %q", f.held(), f.Copies.GPR[0], tt.held)
			}
		})
	}
}

// TestStops: a search ends with its context.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m := fakekvm.New()
	m.Put(0, 1)
	if _, err := (Search{Mem: m}).Registers(ctx, []*vmcs.VMCS{fakekvm.VMCS(fakekvm.VMCSAddr, nil)}); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}
