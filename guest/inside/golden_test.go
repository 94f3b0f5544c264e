package inside

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// openHost opens one of the golden hosts, with registers.
func openHost(t testing.TB, name string) *guest.Host {
	t.Helper()
	image := testcores.Image(t, name)
	c, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	h := guest.OpenHost(c)
	if err := h.FindMachines(context.Background(), guest.MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestGolden looks into real guests: one of 5.10 that panicked, idle and busy
// ones of 6.1 and 6.12, with KASLR. The hosts' README has what they printed
// themselves.
func TestGolden(t *testing.T) {
	for _, name := range []string{"amd-5.10", "amd-6.1", "amd-6.1-d31", "amd-6.12"} {
		t.Run(name, func(t *testing.T) {
			h := openHost(t, "linux-host/"+name)
			all, err := All(context.Background(), h, Options{Backtrace: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for m := range h.All() {
				s := all[m]
				fmt.Fprintf(&b, "%s: %s %s, host name %q, up %v at %v, panic %q\n", m.ID(), s.OS, s.Release, s.Hostname, s.Uptime, s.Time, s.Panic)
				if s.Err != nil {
					fmt.Fprintf(&b, "  %v\n", s.Err)
				}
				for i, a := range s.VCPUs {
					fmt.Fprintf(&b, "  vCPU %d: %v %q %d at %s\n", i, a.HasTask, a.Task, a.PID, a.Symbol)
					for _, f := range a.Backtrace {
						fmt.Fprintf(&b, "    %#x %s by %s\n", f.Addr, f.Symbol, f.Found)
					}
				}
			}
			golden := filepath.Join("testdata", name+".txt")
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
