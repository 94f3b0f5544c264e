package guest

import (
	"context"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

// A guest of TDX has no vcpu_vmx: nothing that lies where that would have a
// VMCS, and none of KVM's copies, is taken for the guest's state. Its memory is
// not read unless the caller asks for ciphertext.
func TestTDX(t *testing.T) {
	core, layout := openCore(t, intelHosts[0].core), noteLayout(t, "../testdata/cores/"+intelHosts[0].layout)
	found := inferred(t, core, layout)
	for _, tt := range []struct {
		name  string
		typed bool
		kind  uint64
		want  Encryption
	}{
		{"a kernel that knows no types of machines", false, 5, NotEncrypted},
		{"a machine like any other", true, 0, NotEncrypted},
		{"protected by software, readable for its host", true, 1, NotEncrypted},
		{"TDX", true, 5, TDX},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := kvmLike(t, core, found, nil)
			fake.kvm.typed = tt.typed
			fake.Put(fake.list[0]+kvmArch, fakelinux.LE64(tt.kind))
			h := fake.finish()
			h.SetLayout(layout, nil)
			if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil || h.KVMError != nil {
				t.Fatal(err, h.NoKVM, h.KVMError)
			}
			if err := h.FindRegisters(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			for i, m := range h.Machines {
				want := NotEncrypted
				if i == 0 {
					want = tt.want
				}
				if m.Encryption() != want || len(m.VCPUs) != len(found.Machines[i].VCPUs) || m.Name == "" {
					t.Fatalf("machine %d, %q: %q, %d vCPUs", i, m.Name, m.Encryption(), len(m.VCPUs))
				}
				for _, v := range m.VCPUs {
					secret := want == TDX
					if v.HasVMCS() == secret || (v.VMCSAddr == 0) != secret || v.TID != 1000+i || v.Vendor != Intel {
						t.Errorf("vCPU %d.%d: VMCS %#x", i, v.Number, v.VMCSAddr)
					}
					if secret && *v.Regs != (Registers{}) {
						t.Errorf("vCPU %d.%d: %+v", i, v.Number, v.Regs)
					}
				}
				_, err := m.Memory()
				if errors.Is(err, ErrEncrypted) != (want == TDX) {
					t.Errorf("machine %d: memory: %v", i, err)
				}
				m.AllowEncrypted()
				if _, err := m.Memory(); errors.Is(err, ErrEncrypted) {
					t.Errorf("machine %d: ciphertext: %v", i, err)
				}
			}
		})
	}
}
