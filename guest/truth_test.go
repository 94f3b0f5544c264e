package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// userSlots is KVM_USER_MEM_SLOTS: KVM's own slots are above.
const userSlots = 32764

// A truth is what a host and its VMMs printed before the host was dumped.
type truth struct {
	machines map[int]*trueMachine // by pid
	vmcs     uint64               // that was current once; 0 if nothing tells
}

type trueMachine struct {
	comm, cgroup, command string
	name                  string
	threads               map[int]string
	slots                 []string // "space: GPA to last GPA"
	vcpus                 []map[string]uint64
}

// readTruth reads the .truth file of a host in testdata/cores/linux-host.
func readTruth(t *testing.T, name string) truth {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "cores", "linux-host", name+".truth"))
	if err != nil {
		t.Fatal(err)
	}
	tr := truth{machines: map[int]*trueMachine{}}
	names := map[string]*trueMachine{} // QEMU's guests, and those of kvmguest
	registers := regexp.MustCompile(`(\w+) ?=(?:0x)?([0-9a-f]+)`)
	section := ""
	var spaces []int // of the regions that follow
	listed := false  // some
	var m *trueMachine
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		words := strings.Fields(line)
		values := map[string]uint64{}
		for _, r := range registers.FindAllStringSubmatch(line, -1) {
			values[strings.ToLower(r[1])], _ = strconv.ParseUint(r[2], 16, 64)
		}
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
			m, spaces, listed = names[section], nil, false
		case section == "vmread":
			tr.vmcs = values["vmcs"]
		case section == "processes" && words[0] == "pid":
			pid, _ := strconv.Atoi(words[1])
			_, cgroup, _ := strings.Cut(words[3], "0::")
			m = &trueMachine{comm: words[2], cgroup: cgroup, threads: map[int]string{}}
			tr.machines[pid] = m
		case section == "processes" && words[0] == "thread":
			tid, _ := strconv.Atoi(words[1])
			m.threads[tid] = strings.Join(words[2:], " ")
		case section == "processes":
			m.command = line
			if m.name = words[1]; words[1] == "-name" { // else kvmguest NAME
				m.name, _, _ = strings.Cut(strings.TrimPrefix(words[2], "guest="), ",")
			}
			names[m.name] = m
		case section == "guests.log" && words[1] == "MEMORY":
			m = names[words[0]]
			m.slots = append(m.slots, "0: 0x0 to 0x1fffff")
		case section == "guests.log" && words[1] == "EXPECT":
			m.vcpus = append(m.vcpus, values)
		case section == "guests.log":
		case strings.HasPrefix(line, "CPU#"):
			m.vcpus = append(m.vcpus, values)
		case strings.HasPrefix(line, " AS "):
			if listed { // another view
				spaces, listed = nil, false
			}
			spaces = append(spaces, map[string]int{`"memory",`: 0, `"KVM-SMRAM",`: 1}[words[1]])
		case strings.HasPrefix(line, "  "):
			listed = true
			from, to, _ := strings.Cut(words[0], "-")
			first, _ := strconv.ParseUint(from, 16, 64)
			last, _ := strconv.ParseUint(to, 16, 64)
			for _, s := range spaces {
				m.slots = append(m.slots, fmt.Sprintf("%d: %#x to %#x", s, first, last))
			}
		default:
			for n, v := range values {
				if len(n) == 3 && n[0] == 'e' && n != "efer" { // EAX in 16-bit mode
					n = "r" + n[1:]
				}
				m.vcpus[len(m.vcpus)-1][n] = v
			}
		}
	}
	return tr
}

// Everything listed of an Intel host with a real QEMU is what the host, QEMU's
// monitors and kvmguest printed; KVM's structures and the search for VMCSs
// agree.
func TestGoldenTruth(t *testing.T) {
	for name, file := range map[string]string{"intel-6.1": "intel-6.1", "intel-6.1-d31": "intel-6.1", "intel-6.12": "intel-6.12"} {
		t.Run(name, func(t *testing.T) {
			tr := readTruth(t, file)
			h := OpenHost(openCore(t, "linux-host/"+name))
			ctx := context.Background()
			if err := h.FindMachines(ctx, MachineSearch{Explain: true}); err != nil {
				t.Fatal(err)
			}
			if err := h.FindRegisters(ctx, nil); err != nil {
				t.Fatal(err)
			}
			for _, d := range h.Disagreements {
				t.Errorf("%s is %q by KVM's structures, %q by the VMCSs", d.What, d.KVM, d.VMCS)
			}
			if h.NoKVM != nil || h.KVMError != nil || len(h.Machines) != len(tr.machines) || len(tr.machines) != 4 {
				t.Fatalf("%d machines, want %d (%v, %v)", len(h.Machines), len(tr.machines), h.NoKVM, h.KVMError)
			}
			current := 0
			for _, m := range h.Machines {
				want := tr.machines[m.PID]
				if want == nil {
					t.Fatalf("machine %s is of pid %d", m.ID(), m.PID)
				}
				tr.checkMachine(t, m, want, strings.HasSuffix(name, "-d31"))
				for i, v := range m.VCPUs {
					checkVCPU(t, m, v, want.vcpus[i], want.threads)
					if v.VMCSAddr == tr.vmcs {
						current++
					}
				}
			}
			if tr.vmcs != 0 && current != 1 {
				t.Errorf("%d vCPUs have the VMCS at %#x", current, tr.vmcs)
			}
		})
	}
}

// checkMachine compares what is listed of a machine. A dump without user memory
// has no command line, and without that a name from the cgroup only.
func (truth) checkMachine(t *testing.T, m *Machine, want *trueMachine, noUser bool) {
	t.Helper()
	command, name := want.command, want.name
	if want.comm == "kvmguest" {
		name = m.Name // nothing says that its first argument is one
	}
	if noUser {
		command = ""
	}
	if m.Comm != want.comm || m.Cgroup != want.cgroup || strings.Join(m.Command, " ") != command || m.Name != name {
		t.Errorf("pid %d: %q %q in %q, %q, want %+v", m.PID, m.Name, m.Comm, m.Cgroup, m.Command, *want)
	}
	var slots []string
	for _, s := range m.Slots {
		if s.ID < userSlots {
			slots = append(slots, fmt.Sprintf("%d: %#x to %#x", s.Space, s.GPA, s.GPA+s.Size-1))
		}
	}
	slices.Sort(slots)
	slices.Sort(want.slots)
	if !slices.Equal(slots, want.slots) {
		t.Errorf("pid %d: slots %q, want %q", m.PID, slots, want.slots)
	}
	if len(m.VCPUs) != len(want.vcpus) {
		t.Fatalf("pid %d: %d vCPUs, want %d", m.PID, len(m.VCPUs), len(want.vcpus))
	}
}

// checkVCPU compares the registers that the truth has. QEMU and KVM_GET_REGS
// show RIP after a HLT.
func checkVCPU(t *testing.T, m *Machine, v *VCPU, want map[string]uint64, threads map[int]string) {
	t.Helper()
	if comm, ok := threads[v.TID]; !ok || comm != v.Thread || !v.HasVMCS() || v.Vendor != Intel {
		t.Errorf("%s, vCPU %d: thread %d %q, has a VMCS: %v", m.Name, v.Number, v.TID, v.Thread, v.HasVMCS())
	}
	r := v.Regs
	got := map[string]Register{"rip": v.RIP(), "cr0": r.CR0, "cr2": r.CR2, "cr3": r.CR3, "cr4": r.CR4, "efer": r.EFER, "rfl": r.RFLAGS}
	for i, n := range GPRNames {
		got[strings.ToLower(n)] = r.GPR[i]
	}
	checked := 0
	for n, g := range got {
		w, ok := want[n]
		if n == "rfl" && !ok {
			w, ok = want["efl"]
		}
		if !ok {
			continue
		}
		if checked++; !g.Known() || g.Value != w {
			t.Errorf("%s, vCPU %d: %s is %v, want %#x", m.Name, v.Number, n, g, w)
		}
	}
	if checked < 4 {
		t.Errorf("%s, vCPU %d: %d registers compared", m.Name, v.Number, checked)
	}
}
