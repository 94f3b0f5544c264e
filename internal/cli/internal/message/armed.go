package message

import (
	"io"
	"strings"

	"vmcsnote/internal/armed"
	"vmcsnote/internal/cli/internal/hint"
)

// Armed tells what verify --armed has found, and what follows.
func (p *Printer) Armed(r *armed.Report) error {
	var b strings.Builder
	for _, c := range r.Checks {
		state := string(c.State)
		if c.State == armed.Failed {
			state = "FAIL"
		}
		b.WriteString(state + " " + c.Name + ": " + Name(c.Text) + "\n")
		if cure := CureText(c); cure != "" {
			b.WriteString("     hint: " + cure + "\n")
		}
	}
	switch r.State {
	case armed.OK:
		b.WriteString("armed\n")
	case armed.None:
		b.WriteString("nothing to record\n")
	case armed.Failed:
		b.WriteString("not armed\n")
	default:
		b.WriteString("not known to be armed\n")
	}
	_, err := io.WriteString(p.Stdout, b.String())
	return err
}

// cures are the steps that may make a check succeed.
var cures = map[armed.Cure]string{
	armed.BecomeRoot:    "run it as root",
	armed.Record:        "run vmcsnote record",
	armed.RecordAny:     "run vmcsnote record --any-microcode if the layout is known to be the same",
	armed.InstallLayout: "install the layout of this processor with vmcsnote layouts --install FILE and run vmcsnote record",
	armed.LoadModule:    "install vmcsinfo-dkms if it is not there, modprobe vmcsinfo, then run vmcsnote record",
	armed.BootWithKdump: "boot a kernel that has it, with crashkernel= on its command line",
	armed.LoadKdump:     "start kdump.service or kdump-tools.service; it needs crashkernel= on the command line",
	armed.StartKdump:    "start kdump, or name the file with --initrd FILE",
	armed.InstallHook:   "install vmcsnote's package for this kdump",
	armed.PutFirst:      "put it before makedumpfile there",
	armed.Rebuild:       "make it anew",
	armed.RebuildFedora: "kdumpctl rebuild && kdumpctl reload",
	armed.RebuildSUSE:   "mkdumprd -f && systemctl restart kdump",
}

// CureText is what to do about a check, or "".
func CureText(c armed.Check) string {
	var steps []string
	for _, cure := range c.Cures {
		if cure == armed.InstallProgram {
			steps = append(steps, hint.Of(c.Err))
		} else {
			steps = append(steps, cures[cure])
		}
	}
	if len(c.Cures) > 0 && c.Cures[0] == armed.InstallLayout { // either will do
		return strings.Join(steps, "; or ")
	}
	return strings.Join(steps, ", then ")
}
