package cli

import (
	"fmt"
	"strings"

	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
)

// A changeReport tells how a change went. Its JSON names are fixed.
type changeReport struct {
	File      string           `json:"file"`
	Output    string           `json:"output,omitempty"`
	Source    source.Kind      `json:"source,omitempty"`
	Placement vmcore.Placement `json:"placement"`
	NoteSize  int              `json:"note_size"`        // of the descriptor, or of all descriptors, bytes
	Growth    int64            `json:"growth,omitempty"` // by how many bytes a file changed in place is larger
	Changed   bool             `json:"changed"`
	DryRun    []string         `json:"dry_run,omitempty"`
	Error     string           `json:"error,omitempty"`

	why string
}

// report records where the notes of a copy went.
func (r *changeReport) report(d decision, l *vmcore.Layout) {
	r.why = d.why
	r.Changed = !d.splice.Empty()
	switch {
	case !r.Changed:
	case l.Joined:
		r.Placement = vmcore.Split
	case l.Shift == 0:
		r.Placement = vmcore.Slack
	default:
		r.Placement = vmcore.Copy
	}
}

// dry reports a plan that is not carried out.
func (f *changeFlags) dry(e *env, r *changeReport, plan string) error {
	if !f.dryRun {
		return nil
	}
	r.Changed = false
	r.DryRun = strings.Split(strings.TrimSpace(plan), "\n")
	if f.json {
		return nil
	}
	_, err := fmt.Fprintf(e.Stdout, "placement: %s\n%s\n", r.Placement, strings.Join(r.DryRun, "\n"))
	return err
}

// changed tells how a core was changed.
func (e *env) changed(r changeReport) {
	where := r.File
	if r.Output != "" {
		where = r.Output
	}
	if where == "-" {
		where = "standard output"
	}
	if !r.Changed {
		e.Say("%s: %s", where, r.why)
		return
	}
	how := ""
	if i := placements.find(string(r.Placement)); i >= 0 {
		how = placements[i].about
	}
	switch undone := r.Placement == vmcore.Clone || r.Placement == vmcore.Copy || r.Placement == vmcore.Split; {
	case r.Placement == vmcore.Split && (r.Growth < 0 || r.Output != ""):
		how = "the first pages of memory moved back"
	case r.Growth > 0 && !undone: // by remove
		how += ", which stays " + message.Size(r.Growth) + " larger"
	}
	e.Say("%s: %s (%s: %s)", where, r.why, r.Placement, how)
}

// placements are the ways in which notes grow, and what a changed core is then.
var placements = choices{
	{string(vmcore.Slack), "within the room after the notes"},
	{string(vmcore.End), "at the end of the file"},
	{string(vmcore.Clone), "a clone, with all memory shifted by whole pages, in the file's place"},
	{string(vmcore.Split), "the first pages of memory moved to the end of the file"},
	{string(vmcore.Evict), "the first segments moved to the end of the file"},
	{string(vmcore.Copy), "all memory shifted by whole pages"},
}
