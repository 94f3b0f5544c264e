package guestlist

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/visible"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// activity returns what a vCPU was doing, as far as is known.
func (h *Host) activity(m *guest.Machine, v *guest.VCPU) inside.Activity {
	s := h.Systems[m]
	for i := range m.VCPUs {
		if s != nil && m.VCPUs[i] == v && i < len(s.VCPUs) {
			return s.VCPUs[i]
		}
	}
	return inside.Activity{}
}

// SystemNames are the names that --field takes for what runs in the machines.
var SystemNames = []string{"TASK", "TASK_PID", "SYMBOL", "OS", "RELEASE", "HOSTNAME", "UPTIME_S", "PANIC"}

// systemField returns the value of one of SystemNames, "" if it is unknown.
func (h *Host) systemField(m *guest.Machine, v *guest.VCPU, field string) string {
	a, s := h.activity(m, v), h.Systems[m]
	switch {
	case s == nil:
	case field == "TASK":
		return a.Task
	case field == "TASK_PID" && a.HasTask:
		return strconv.Itoa(a.PID)
	case field == "SYMBOL":
		return a.Symbol
	case field == "OS":
		return s.OS
	case field == "RELEASE":
		return s.Release
	case field == "HOSTNAME":
		return s.Hostname
	case field == "UPTIME_S" && s.Uptime > 0:
		return strconv.FormatInt(int64(s.Uptime/time.Second), 10)
	case field == "PANIC":
		return s.Panic
	}
	return ""
}

// maxPlace is how much of a symbol or file name a line of the list has.
const maxPlace = 64

// taskText names a task and its pid, as init[1].
func taskText(a inside.Activity) string {
	if !a.HasTask {
		return "-"
	}
	return fmt.Sprintf("%s[%d]", visible.Text(a.Task, ""), a.PID)
}

// placeText is where RIP is: by name if that is known.
func placeText(a inside.Activity, v *guest.VCPU) string {
	if a.Symbol == "" {
		return valueText(v, "RIP")
	}
	return shorten(visible.Text(a.Symbol, ""), maxPlace)
}

// dateTime is how a time is printed, which must be in UTC.
const dateTime = "2006-01-02 15:04:05 UTC"

// systemText tells in a line what runs in a machine, "" if that is unknown.
func systemText(s *inside.System) string {
	if s == nil || s.OS == "" {
		return ""
	}
	text := visible.Text(s.OS+" "+s.Release, "")
	if s.Hostname != "" && s.Hostname != unnamed {
		text += ", host name " + visible.Text(s.Hostname, "")
	}
	if s.Uptime > 0 {
		text += ", up " + upText(s.Uptime)
	}
	if s.Panic != "" {
		text += ", panicked: " + shorten(visible.Text(s.Panic, ""), longName)
	}
	return text
}

// WhyUnknown tells a person why the system in a machine is unknown, or a part
// of it.
func WhyUnknown(err error) string {
	switch {
	case errors.Is(err, vmcore.ErrExcluded):
		return "makedumpfile left its memory out of the dump"
	case errors.Is(err, linux.ErrNoImage):
		return "neither Linux nor Windows was found in its memory"
	}
	return err.Error()
}

// printSystems prints what runs in each machine, as far as is known.
func (h *Host) printSystems(w io.Writer) {
	excluded := 0
	for m := range h.All() {
		if s := h.Systems[m]; s != nil && errors.Is(s.Err, vmcore.ErrExcluded) {
			excluded++
		}
		if text := systemText(h.Systems[m]); text != "" {
			name := ""
			if m.Name != "" {
				name = " (" + shorten(visible.Text(m.Name, ""), longName) + ")"
			}
			fmt.Fprintf(w, "guest %s%s: %s\n", m.ID(), name, text)
		}
	}
	if excluded > 0 {
		fmt.Fprintf(w, "what ran in %s is unknown: makedumpfile left the memory out of the dump\n", message.Plural(excluded, "guest"))
	}
}

// printSystem prints what runs in a machine, with the words of -v.
func (h *Host) printSystem(w io.Writer, m *guest.Machine) {
	s := h.Systems[m]
	switch text := systemText(s); {
	case s == nil:
	case text == "":
		fmt.Fprintf(w, "  system: unknown (%s)\n", WhyUnknown(s.Err))
	default:
		fmt.Fprintf(w, "  system: %s\n", text)
		if !s.Time.IsZero() {
			booted := ""
			if at := s.Booted(); !at.IsZero() {
				booted = ", booted " + at.Format(dateTime)
			}
			fmt.Fprintf(w, "  its clock: %s%s\n", s.Time.Format(dateTime), booted)
		}
		if s.Err != nil {
			fmt.Fprintf(w, "  warning: not all of the system could be told: %s\n", WhyUnknown(s.Err))
		}
	}
}

// printActivity prints what a vCPU was doing, with its backtrace.
func (h *Host) printActivity(w io.Writer, m *guest.Machine, v *guest.VCPU) {
	a := h.activity(m, v)
	if a.HasTask {
		fmt.Fprintf(w, "  task: %s, pid %d\n", quoted(a.Task), a.PID)
	}
	if a.Symbol != "" {
		fmt.Fprintf(w, "  at: %s\n", visible.Text(a.Symbol, ""))
	}
	if len(a.Backtrace) == 0 {
		return
	}
	fmt.Fprintln(w, "  backtrace:")
	for _, f := range a.Backtrace {
		fmt.Fprintf(w, "    %#016x  %s\n", f.Addr, visible.Text(frameText(f), ""))
	}
}

// reportSystem adds what runs in a machine to its JSON object.
func (h *Host) reportSystem(field func(name string, value any), m *guest.Machine) {
	s := h.Systems[m]
	if s == nil {
		return
	}
	for _, f := range []struct{ name, value string }{
		{"os", s.OS}, {"release", s.Release}, {"hostname", s.Hostname}, {"panic", s.Panic},
	} {
		if f.value != "" {
			field(f.name, f.value)
		}
	}
	if s.Uptime > 0 {
		field("uptime_s", int64(s.Uptime/time.Second))
	}
	if !s.Time.IsZero() {
		field("time", s.Time.Format(time.RFC3339))
	}
	if at := s.Booted(); !at.IsZero() {
		field("boot_time", at.Format(time.RFC3339))
	}
	if s.Err != nil {
		field("os_error", strings.ToValidUTF8(s.Err.Error(), "?"))
	}
}

// activity adds what a vCPU was doing.
func (r *vcpuReport) activity(a inside.Activity) {
	if a.HasTask {
		r.Task, r.TaskPID = &a.Task, &a.PID
	}
	r.Symbol, r.Backtrace = a.Symbol, reportBacktrace(a.Backtrace)
}

// A frameReport is a function on a stack.
type frameReport struct {
	Addr   string `json:"addr"`
	Symbol string `json:"symbol,omitempty"`
	Module string `json:"module,omitempty"`
	Offset uint64 `json:"offset"` // of addr in it
	Found  string `json:"found"`  // orc, frame-pointer, scan
}

func reportBacktrace(frames []linux.Frame) (all []frameReport) {
	for _, f := range frames {
		all = append(all, frameReport{message.Hex(f.Addr), f.Symbol.Name, f.Symbol.Module, f.Symbol.Offset, f.Found.String()})
	}
	return all
}
