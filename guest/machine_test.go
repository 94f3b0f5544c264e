package guest

import (
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/guest/internal/fakekvm"
	"vmcsnote/vmcs"
)

func TestMachines(t *testing.T) {
	const a, b = 0x1000, 0x2000 // processes
	type cpu struct{ eptp, cr3, secondary uint64 }
	for _, tt := range []struct {
		name string
		cpus []cpu
		want []int // how many vCPUs each machine has
		errs []error
	}{
		{"two vCPUs, other PCIDs", []cpu{{0x5e05e, a | 1, 2}, {0x5e05e, a | 2, 2}}, []int{2}, []error{nil}},
		{"two machines of one process", []cpu{{0x5e05e, a, 2}, {0x6e05e, a, 2}}, []int{1, 1}, []error{nil, nil}},
		{"a vCPU that never ran", []cpu{{0, a, 2}, {0x6e05e, b, 2}, {0x5e05e, a, 2}}, []int{2, 1}, []error{nil, nil}},
		{"no vCPU ever ran", []cpu{{0, a, 2}, {0, a, 2}, {0, b, 2}}, []int{2, 1}, []error{ErrNeverRan, ErrNeverRan}},
		{"without EPT", []cpu{{0, a, 0}, {0x5e05e, a, 0}, {0, b, 0}}, []int{2, 1}, []error{ErrNoEPT, ErrNoEPT}},
		{"without EPT, and with EPT but never run", []cpu{{0, a, 0}, {0, b, 2}}, []int{1, 1}, []error{ErrNoEPT, ErrNeverRan}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var found []*vmcs.Candidate
			for i, c := range tt.cpus {
				v := fakekvm.VMCS(uint64(i)<<12, map[string]uint64{"EPT_POINTER": c.eptp, "HOST_CR3": c.cr3, "SECONDARY_VM_EXEC_CONTROL": c.secondary})
				found = append(found, &vmcs.Candidate{VMCS: *v})
			}
			var got []int
			for i, m := range Machines(newRAM(), found) {
				got = append(got, len(m.VCPUs))
				if _, err := m.Memory(); !errors.Is(err, tt.errs[i]) {
					t.Errorf("memory of machine %d: %v, want %v", i, err, tt.errs[i])
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
