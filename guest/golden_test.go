package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// Hosts with a real QEMU: what KVM's structures tell is what the hosts
// themselves printed before they were dumped (testdata/cores/linux-host).
func TestGoldenHosts(t *testing.T) {
	for _, name := range []string{"amd-5.10", "amd-6.1", "amd-6.1-d31", "amd-6.1-nested", "amd-6.12", "amd-7.3", "intel-6.1", "intel-6.1-d31", "intel-6.12"} {
		t.Run(name, func(t *testing.T) {
			h := OpenHost(openCore(t, "linux-host/"+name))
			if err := h.FindMachines(context.Background(), MachineSearch{Progress: func(*Machine, uint64, uint64) { t.Error("a search") }}); err != nil {
				t.Fatal(err)
			}
			if err := h.FindRegisters(context.Background(), func(uint64, uint64) { t.Error("a search for registers") }); err != nil {
				t.Fatal(err)
			}
			if h.NoKVM != nil || h.KVMError != nil {
				t.Errorf("%v, %v", h.NoKVM, h.KVMError)
			}
			var b strings.Builder
			for _, m := range h.Machines {
				list(&b, m)
			}
			golden := filepath.Join("testdata", "hosts", name+".txt")
			if testcores.Update() {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", b.String(), want)
			}
		})
	}
}

// list prints what is known of a machine.
func list(w io.Writer, m *Machine) {
	fmt.Fprintf(w, "%s: %q, UUID %q, by %s, pid %d %q in %q, page tables at %#x\n  %q\n",
		m.ID(), m.Name, m.UUID, m.FoundBy, m.PID, m.Comm, m.Cgroup, m.Process, m.Command)
	for _, s := range m.Slots {
		fmt.Fprintf(w, "  slot %d.%d: %#x bytes from %#x at %#x, flags %#x\n", s.Space, s.ID, s.Size, s.GPA, s.HVA, s.Flags)
	}
	for _, v := range m.VCPUs {
		fmt.Fprintf(w, "  vCPU %d: %s, %s, thread %d %q on CPU %d, VMCS %#x, VMCB %#x, %s mode, never ran %v\n",
			v.Number, v.Vendor, v.State, v.TID, v.Thread, v.HostCPU, v.VMCSAddr, v.VMCB, v.Mode(), v.NeverExited())
		r := v.Regs
		fmt.Fprintf(w, "    %v\n    RIP %v %s RFLAGS %v CR0 %v CR2 %v CR3 %v CR4 %v CR8 %v EFER %v, by %s\n",
			r.GPR, r.RIP, r.RIP.Origin, r.RFLAGS, r.CR0, r.CR2, r.CR3, r.CR4, r.CR8, r.EFER, r.Evidence.Held)
	}
	for _, n := range m.Nested {
		list(w, n)
	}
}
