package message

import (
	"fmt"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/guest/qemucore"
	"vmcsnote/vmcore"
)

// PartOfGuest warns of a process's core that has only part of the guest's
// memory, as where one of several memory backends is shared.
func (p *Printer) PartOfGuest(path string, m qemucore.Match) {
	if lacks := m.GuestPages - m.GuestCovered; lacks > 0 {
		p.Say("warning: %s lacks %d of the %d pages of the guest's memory that were looked up in it", path, lacks, m.GuestPages)
		p.Hint(DumpItAll)
	}
}

// Extracted tells what a guest's core has and what it lacks. If the memory is
// from a process's core, nothing tells what the guest has touched.
func (p *Printer) Extracted(out string, s *guest.Summary, inProcess, written bool) {
	if written {
		p.Say("%s: %s of the guest's memory, %s", out, Size(int64(s.Bytes)), Plural(len(s.VCPUs), "vCPU"))
		p.vmcoreinfo(s)
		switch {
		case s.Untouched == 0:
		case inProcess:
			p.Say("left out, because the process's core lacks it: %s", Size(int64(s.Untouched)))
		default:
			p.Say("left out, because the guest never touched it: %s", Size(int64(s.Untouched)))
		}
		if s.Zeros > 0 {
			p.Say("warning: %s written as zeros, to keep the number of segments down", Plural(int(s.Zeros), "unreadable page"))
		}
	}
	for i, l := range s.Lost {
		if i == MaxWarnings {
			p.Say("warning: more pages could not be read, for %s", Plural(len(s.Lost)-i, "other reason"))
			break
		}
		p.Say("warning: %s could not be read, the first at %#x: %v", Plural(int(l.Pages), "page"), l.First, l.Reason)
		if written && errors.Is(l.Reason, vmcore.ErrExcluded) {
			p.Hint(TakeQEMUCore)
		}
	}
	for i, names := range s.Unknown {
		if written && len(names) > 0 {
			p.Say("warning: vCPU %d: these registers are unknown, and zero in its notes: %s", i, strings.Join(names, " "))
		}
	}
}

// vmcoreinfo tells whether the core has the guest's VMCOREINFO, and why not.
func (p *Printer) vmcoreinfo(s *guest.Summary) {
	for _, i := range s.Infos {
		if len(s.Infos) == 1 {
			break
		}
		text := fmt.Sprintf("VMCOREINFO in guest memory at %#x, %d bytes: %s", i.Addr, len(i.Note.Desc), infoText(string(i.Note.Desc)))
		if !i.Runs {
			text += "; not the running kernel's"
		}
		p.Say("%s", text)
	}
	switch s.Info {
	case guest.InfoFound:
		p.Say("the core has the guest's VMCOREINFO: Linux %s", Name(s.Release))
	case guest.InfoForeign:
		p.Say("no VMCOREINFO: the one in guest memory is not of the running kernel")
	case guest.InfoAmbiguous:
		p.Say("no VMCOREINFO: guest memory has several, and nothing tells which one is right")
	default:
		p.Say("no VMCOREINFO found in guest memory (not Linux, or the page is missing)")
	}
}

// TakeQEMUCore is the cure for a host's dump that was filtered.
const TakeQEMUCore = "--qemu-core takes the memory from a core of the process that ran the guest: makedumpfile leaves it out of the host's"

// dumpFilter is the cure for a process's core without the guest's memory: the
// kernel and gdb leave out shared memory of files and huge pages (their default
// filter is 0x33), and what QEMU has marked by dump-guest-core=off.
const (
	dumpFilter = "write 0x7f to /proc/PID/coredump_filter before gcore or the crash, and run QEMU without -machine dump-guest-core=off"
	DumpItAll  = dumpFilter + "; if the host's dump has the memory, leave out --qemu-core\n" + dumpFilter
)
