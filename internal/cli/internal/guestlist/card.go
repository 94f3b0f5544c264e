package guestlist

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"

	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/report"
	"vmcsnote/linux"
	"vmcsnote/svm"
)

// pageMachine puts a machine and what ran in it into words.
func pageMachine(m *guest.Machine) report.Machine {
	s := inside.Look(m, inside.Options{Backtrace: true})
	c := report.Machine{ID: m.ID(), Name: cmp.Or(m.Name, "machine "+m.ID()), System: strings.TrimSpace(s.OS + " " + s.Release)}
	c.Doing = doing(m, s)
	if s.Panic != "" {
		c.Alert = "Kernel panic: " + s.Panic
	}
	add := func(name, value string) { c.Facts = append(c.Facts, report.Fact{Name: name, Value: value}) }
	switch {
	case s.Err == nil:
		add("System", c.System)
	case c.System == "":
		add("System", "unknown: "+WhyUnknown(s.Err))
	default:
		add("System", c.System+" (not all of it could be told: "+WhyUnknown(s.Err)+")")
	}
	if s.Hostname != unnamed {
		add("Host name", s.Hostname)
	}
	if s.Uptime > 0 {
		add("Up", upText(s.Uptime))
	}
	if at := s.Booted(); !at.IsZero() {
		add("Booted", at.Format(dateTime)+", by its own clock")
	}
	if m.Within != nil {
		add("Runs in", "machine "+m.Within.ID())
	}
	add("UUID", m.UUID)
	if m.PID != 0 {
		add("Process", fmt.Sprintf("%s, pid %d", m.Comm, m.PID))
	}
	add("Cgroup", m.Cgroup)
	add("Command line", commandLine(m.Command))
	add("Encryption", EncryptedText(m))
	pageMemory(&c, m)
	c.VCPUs = pageVCPUs(m, s)
	switch {
	case s.Kernel == nil:
	case s.Panic != "":
		c.Log = pageLog(s.Kernel, hostLogLines) // the trace included
	default:
		c.Log = pageLog(s.Kernel, guestLogLines)
	}
	return c
}

// maxDoing bounds the tasks that a line about a machine names.
const maxDoing = 3

// places are the states of vCPUs that are places, in words.
var places = map[string]string{"guest": "in the guest", "host": "in the host's kernel", "vmm": "in its process"}

// doing tells in a few words what a machine was doing: its tasks, or where its
// vCPUs were.
func doing(m *guest.Machine, s *inside.System) string {
	var tasks, states []string
	idle := len(m.VCPUs) > 0
	for i, v := range m.VCPUs {
		a := s.VCPUs[i]
		idle = idle && a.HasTask && a.PID == 0
		if a.HasTask && a.PID != 0 {
			tasks = append(tasks, fmt.Sprintf("%s (%d)", a.Task, a.PID))
		}
		state := cmp.Or(places[v.State], v.State, "state unknown")
		if v.NeverExited() {
			state = neverRan
		}
		if !slices.Contains(states, state) {
			states = append(states, state)
		}
	}
	text := strings.Join(states, ", ")
	switch {
	case idle:
		text = "idle"
	case len(tasks) > maxDoing:
		text = fmt.Sprintf("ran %s and %d more", strings.Join(tasks[:maxDoing], ", "), len(tasks)-maxDoing)
	case len(tasks) > 0:
		text = "ran " + strings.Join(tasks, ", ")
	}
	return message.Plural(len(m.VCPUs), "vCPU") + ": " + text
}

// pageMemory tells where a machine's memory is.
func pageMemory(c *report.Machine, m *guest.Machine) {
	mem, err := m.Memory()
	slots := m.Slots
	if err != nil {
		c.NoMemory = fmt.Sprintf("Memory: %v.", err)
	} else if slots == nil {
		slots = mem.Slots()
	}
	var total uint64
	for _, s := range slots {
		if s.Space == 0 && s.Size > 0 {
			c.Slots = append(c.Slots, report.Region{Start: s.GPA, Size: s.Size, ReadOnly: s.Flags&2 != 0})
			total += s.Size
		}
	}
	sort.Slice(c.Slots, func(i, j int) bool { return c.Slots[i].Start < c.Slots[j].Start })
	if total > 0 {
		c.Facts = append(c.Facts, report.Fact{Name: "Memory", Value: message.Size(int64(total))})
	}
	if err != nil {
		return
	}
	t := mem.Tally()
	use := func(k report.Kind, bytes uint64, what string) {
		if bytes > 0 {
			c.Uses = append(c.Uses, report.Use{Kind: k, Bytes: bytes, Text: message.Size(int64(bytes)) + " " + what})
		}
	}
	use(report.Mapped, t.EPT, "mapped by "+tableName(m))
	use(report.Process, t.Process, "by the process alone")
	use(report.Swapped, t.Swapped, "swapped out")
	if used := t.EPT + t.Process + t.Swapped; used < total && len(c.Uses) > 0 {
		use(report.Untouched, total-used, "never touched")
	}
}

// pageVCPUs puts a machine's vCPUs into words, one after the other. It reads
// nothing more of the dump.
func pageVCPUs(m *guest.Machine, s *inside.System) iter.Seq[report.VCPU] {
	return func(yield func(report.VCPU) bool) {
		for i, v := range m.VCPUs {
			if i == maxPageVCPUs {
				yield(report.VCPU{Name: fmt.Sprintf("and %s", message.Plural(len(m.VCPUs)-i, "more vCPU"))})
				return
			}
			if !yield(pageVCPU(m, v, s.VCPUs[i])) {
				return
			}
		}
	}
}

func pageVCPU(m *guest.Machine, v *guest.VCPU, a inside.Activity) report.VCPU {
	c := report.VCPU{Name: fmt.Sprintf("vCPU %d", v.Number)}
	words := []string{cmp.Or(places[v.State], v.State)}
	if a.HasTask {
		words = append(words, fmt.Sprintf("%s (%d)", a.Task, a.PID))
	}
	words = append(words, cmp.Or(a.Symbol, "RIP "+v.RIP().String()))
	c.Doing = strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " · ")
	c.Facts = []report.Fact{{Name: "Mode", Value: modeText(v)}, {Name: "Last exit", Value: exitText(v)}}
	if v.TID != 0 {
		c.Facts = append(c.Facts, report.Fact{Name: "Thread", Value: fmt.Sprintf("%d %s, on host CPU %s", v.TID, v.Thread, hostCPUText(v))})
	}
	c.Facts = append(c.Facts, report.Fact{Name: "Kept in", Value: controlText(v)})
	for _, f := range a.Backtrace {
		c.Backtrace = append(c.Backtrace, frameText(f))
	}
	if v.Regs == nil {
		return c
	}
	if v.SVM != nil && v.SVM.Encryption() >= svm.SEVES {
		c.Facts = append(c.Facts, report.Fact{Name: "Registers", Value: evidenceText(m, v)})
	}
	for _, r := range registers(v.Regs) {
		c.Registers = append(c.Registers, report.Fact{Name: r.name, Value: r.String()})
	}
	for i, s := range v.Regs.Seg {
		c.Segments = append(c.Segments, report.Fact{Name: guest.SegNames[i],
			Value: fmt.Sprintf("%s  base %s  limit %s  %s", s.Selector, s.Base, s.Limit, rightsText(s))})
	}
	return c
}

// frameText prints a function of a backtrace. As in the kernel's own traces, a
// question mark comes before one that was found only by scanning the stack.
func frameText(f linux.Frame) string {
	text := fmt.Sprintf("%#x", f.Addr)
	if f.Symbol.Name != "" {
		text = f.Symbol.String()
	}
	if f.Found == linux.ByScan {
		return "? " + text
	}
	return text
}
