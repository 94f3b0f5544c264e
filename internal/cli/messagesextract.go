package cli

import (
	"fmt"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/vmcore"
)

// guestOf tells which machine is written, and what it was found by.
func (e *env) guestOf(h *host, m *guest.Machine) {
	e.say("virtual %s, found by %s", machineText(m), h.foundText())
}

// machineText names a machine.
func machineText(m *guest.Machine) string {
	if m.Name == "" {
		return "machine " + m.ID()
	}
	return fmt.Sprintf("machine %s (%s)", m.ID(), m.Name)
}

// hostOf warns of what is doubtful about a host.
func (e *env) hostOf(h *host) {
	for _, text := range h.remarks() {
		e.say("%s", text)
	}
	for _, d := range h.doubts() {
		e.say("warning: %s", d)
	}
	for _, o := range h.ambiguous(h.Found) {
		e.say("warning: the layout %s fits as well: registers and memory may be wrong", o)
	}
}

// partOfGuest warns of a process's core that has only part of the guest's memory,
// as where one of several memory backends is shared.
func (e *env) partOfGuest(path string, m qemucore.Match) {
	if lacks := m.GuestPages - m.GuestCovered; lacks > 0 {
		e.say("warning: %s lacks %d of the %d pages of the guest's memory that were looked up in it", path, lacks, m.GuestPages)
		e.hint(dumpItAll)
	}
}

// extracted tells what a guest's core has and what it lacks. Its memory may be out
// of a process's core, whose page tables do not tell what the guest has touched.
func (e *env) extracted(out string, s *guest.Summary, inProcess, written bool) {
	if written {
		e.say("%s: %s of the guest's memory, %s", out, size(int64(s.Bytes)), plural(len(s.VCPUs), "vCPU"))
		e.vmcoreinfo(s)
		switch {
		case s.Untouched == 0:
		case inProcess:
			e.say("left out, because the process's core lacks it: %s", size(int64(s.Untouched)))
		default:
			e.say("left out, because the guest never touched it: %s", size(int64(s.Untouched)))
		}
		if s.Zeros > 0 {
			e.say("warning: %s written as zeros, to keep the number of segments down", plural(int(s.Zeros), "unreadable page"))
		}
	}
	for i, l := range s.Lost {
		if i == maxWarnings {
			e.say("warning: more pages could not be read, for %s", plural(len(s.Lost)-i, "other reason"))
			break
		}
		e.say("warning: %s could not be read, the first at %#x: %v", plural(int(l.Pages), "page"), l.First, l.Reason)
		if written && errors.Is(l.Reason, vmcore.ErrExcluded) {
			e.hint(takeQEMUCore)
		}
	}
	for i, names := range s.Unknown {
		if written && len(names) > 0 {
			e.say("warning: vCPU %d: these registers are unknown, and zero in its notes: %s", i, strings.Join(names, " "))
		}
	}
}

// vmcoreinfo tells whether the core has the guest's VMCOREINFO, and why not.
func (e *env) vmcoreinfo(s *guest.Summary) {
	for _, i := range s.Infos {
		if len(s.Infos) == 1 {
			break
		}
		text := fmt.Sprintf("VMCOREINFO in guest memory at %#x, %d bytes: %s", i.Addr, len(i.Note.Desc), infoText(string(i.Note.Desc)))
		if !i.Runs {
			text += "; not the running kernel's"
		}
		e.say("%s", text)
	}
	switch s.Info {
	case guest.InfoFound:
		e.say("the core has the guest's VMCOREINFO: Linux %s", name(s.Release))
	case guest.InfoForeign:
		e.say("no VMCOREINFO: the one in guest memory is not of the running kernel")
	case guest.InfoAmbiguous:
		e.say("no VMCOREINFO: guest memory has several, and nothing tells which one is right")
	default:
		e.say("no VMCOREINFO found in guest memory (not Linux, or the page is missing)")
	}
}
