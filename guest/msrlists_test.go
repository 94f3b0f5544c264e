package guest

import (
	"context"
	"iter"
	"testing"

	"vmcsnote/guest/internal/infer"
	"vmcsnote/physmem"
	"vmcsnote/vmcs"
)

// A scannedKVM is memory that remembers whether all of it was asked for.
type scannedKVM struct {
	*testKVM
	all bool
}

func (k *scannedKVM) Ranges() iter.Seq[physmem.Range] {
	k.all = true
	return k.testKVM.Ranges()
}

// Where the VMCS tells by its lists of MSRs where KVM's structure is, only that
// is searched; otherwise all memory is.
func TestSearchNearLists(t *testing.T) {
	const lists, elsewhere = testPointer + 0x148, 0x700028
	here := func(k *testKVM) {
		k.exact(testArray, 0x100)
		k.pointer(testPointer, true)
		k.exact(elsewhere, 0x200) // so that the words alone tell nothing
	}
	there := func(k *testKVM) { k.exact(elsewhere, 0x100) }
	for _, tt := range []struct {
		name        string
		entry, exit uint64
		make        func(*testKVM)
		held        Method
		scanned     bool
	}{
		{"lists in KVM's structure", lists, lists + 0x90, here, ByPointer | ByWords, false},
		{"registers that are not near them are of another", lists, lists + 0x90, there, 0, false},
		{"no lists", 0, 0, there, ByWords, true},
		{"lists in pages of their own, as Xen has them", 0x5000000, 0x5001000, there, ByWords, true},
		{"lists in the other order", lists + 0x90, lists, here, ByPointer | ByWords, true},
		{"one list for both", lists, lists, here, ByPointer | ByWords, true},
		{"no addresses of lists", lists + 1, lists + 0x91, here, ByPointer | ByWords, true},
		{"above all physical addresses", 1<<52 - 0x10, 1 << 52, there, ByWords, true},
		{"where addresses begin", 0x10, 0xa0, there, 0, false},
		{"where addresses end", 1<<52 - 0x90, 1<<52 - 0x10, there, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &scannedKVM{testKVM: &testKVM{ram: newRAM(), base: 0xffff888000000000}}
			tt.make(k.testKVM)
			v := testVMCS(testAddr, map[string]uint64{"VM_ENTRY_MSR_LOAD_ADDR": tt.entry, "VM_EXIT_MSR_LOAD_ADDR": tt.exit})
			all, err := findRegisters(context.Background(), infer.Search{Mem: k}, []*vmcs.VMCS{v})
			if err != nil {
				t.Fatal(err)
			}
			if k.all != tt.scanned {
				t.Errorf("all memory was searched: %v, want %v", k.all, tt.scanned)
			}
			if r := all[0]; r.Evidence.Held != tt.held || (tt.held != 0) != (r.GPR[RAX].Value == 0x100) {
				t.Errorf("held: %v, rax %#x; want %v", r.Evidence.Held, r.GPR[RAX].Value, tt.held)
			}
		})
	}
}
