package inside

import (
	"fmt"

	"vmcsnote/guest"
	"vmcsnote/linux"
)

// Ask tells what runs in a machine whose kernel is open; see [Look].
func Ask(k *linux.Kernel, m *guest.Machine, o Options) *System {
	s := &System{OS: "Linux", Release: k.Release(), Kernel: k, VCPUs: make([]Activity, len(m.VCPUs))}
	if uts, err := k.UTS(); err != nil {
		s.fail(err)
	} else {
		s.Hostname, s.Release = uts.Hostname, uts.Release
	}
	var err error
	if s.Time, s.Uptime, err = k.Clock(); err != nil {
		s.fail(err)
	}
	s.Panic = panicText(k)
	for i, v := range m.VCPUs {
		if v.Regs != nil && v.Regs.RIP.Known() && v.Regs.LongMode {
			s.VCPUs[i] = s.activity(v.Regs, o)
		}
	}
	return s
}

// fail keeps the first error.
func (s *System) fail(err error) {
	if s.Err == nil {
		s.Err = err
	}
}

// panicText returns why the kernel panicked, "" if it did not.
func panicText(k *linux.Kernel) string {
	_, panicked, err := k.Panicked()
	if err == nil && !panicked {
		return ""
	}
	p, _ := k.Panic()
	if p.Message == "" && panicked {
		return "its message is not in its log"
	}
	return p.Message
}

// activity tells what a vCPU in 64-bit mode was doing.
func (s *System) activity(r *guest.Registers, o Options) (a Activity) {
	k := s.Kernel
	rip := r.RIP.Value
	task, running := s.running(r)
	if running {
		comm, err1 := task.Comm()
		pid, err2 := task.PID()
		if a.HasTask = err1 == nil && err2 == nil; a.HasTask {
			a.Task, a.PID = comm, pid
		}
	}
	if isUser(rip) {
		if running {
			a.Symbol = mapped(task, rip)
		}
		return a
	}
	if sym, err := k.SymbolAt(rip); err == nil {
		a.Symbol = sym.String()
	}
	if o.Backtrace {
		a.Backtrace = k.Backtrace(linux.Registers{
			RIP: rip, RSP: r.GPR[guest.RSP].Value, RBP: r.GPR[guest.RBP].Value,
			RDX: r.GPR[guest.RDX].Value, RDI: r.GPR[guest.RDI].Value, R10: r.GPR[guest.R10].Value, R13: r.GPR[guest.R13].Value,
		})
	}
	return a
}

// running returns the task that a vCPU ran. The kernel's GS base tells the
// guest's own number of the vCPU. In user mode that base is in
// IA32_KERNEL_GS_BASE, and it still is during the first and the last
// instructions in the kernel. A program can load any base into GS, also that of
// another processor.
func (s *System) running(r *guest.Registers) (linux.Task, bool) {
	bases := []guest.Register{r.Seg[guest.GS].Base, r.KernelGSBase}
	if isUser(r.RIP.Value) {
		bases = bases[1:]
	}
	for _, gs := range bases {
		if !gs.Known() {
			continue
		}
		if cpu, ok := s.Kernel.CPUOf(gs.Value); ok {
			t, err := s.Kernel.Running(cpu)
			if err != nil {
				s.fail(err)
			}
			return t, err == nil
		}
	}
	return linux.Task{}, false
}

// isUser reports whether an address is in a program's half.
func isUser(addr uint64) bool { return addr>>63 == 0 }

// mapped returns the name of the file that a process has mapped at an address,
// and where in it; "" if that is unknown.
func mapped(t linux.Task, addr uint64) string {
	m, err := t.MappedAt(addr)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s+%#x", m.Path, m.Offset)
}
