package vmcs

import (
	"cmp"
	"slices"
)

// A trust says where a layout comes from. Several layouts may explain the pages
// equally well: a forged note can put anywhere what the checks do not cover,
// such as GUEST_RIP. Then the most trusted layout is taken.
type trust uint8

const (
	// trustRefuted: a note found in memory that may be a process's, and that
	// has fields elsewhere than a built-in layout which explains the pages as
	// well.
	trustRefuted trust = iota
	// trustLearnt: it is right, but lacks fields that others have.
	trustLearnt
	// trustBuiltin: published, for the processor it was taken from.
	trustBuiltin
	// trustFile: the caller has it, and says that it is of a processor with
	// this revision identifier.
	trustFile
	// trustFound: a note found in memory that may be a process's. If it is
	// genuine, it is of this processor.
	trustFound
	// trustKernel: a note found in the kernel's memory.
	trustKernel
	// trustNote: the dump's own note, or what the caller chose.
	trustNote
)

// rank orders layouts by how well they explain the pages. A guest may have more
// VMCSs, for guests of its own, than the host; their pages score as much, but
// in the host's memory their HOST_CR3 leads nowhere. If all VMCSs are stale, a
// layout that finds any goes before one that finds none.
func (t Trial) rank() int64 {
	return int64(t.rooted)<<32 | int64(t.Score)<<1 | int64(min(t.Stale, 1))
}

// before orders trials, the one to take first.
func (t Trial) before(u Trial) int {
	explains := func(t Trial) int {
		switch {
		case t.rank() == 0:
			return 0
		case t.trust == trustNote:
			return 3
		case t.short:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(explains(u), explains(t)), cmp.Compare(u.trust, t.trust), cmp.Compare(u.rank(), t.rank()))
}

// settleTrust marks the trials that fall short: another explains more than
// twice as many VMCSs, or explains VMCSs whose HOST_CR3 leads to page tables
// while theirs do not. Then it refutes each found note that contradicts a
// built-in layout which does not fall short.
func settleTrust(trials []Trial) {
	rooted, live := false, 0
	for _, t := range trials {
		rooted = rooted || t.rooted > 0
	}
	for _, t := range trials {
		if t.rooted > 0 == rooted {
			live = max(live, t.Live)
		}
	}
	for i, t := range trials {
		trials[i].short = t.rooted > 0 != rooted || 2*t.Live < live
	}
	for i, t := range trials {
		if t.trust != trustFound {
			continue
		}
		for _, b := range trials {
			if b.trust == trustBuiltin && !b.short && b.Live >= t.Live && b.Live > 0 && len(t.Layout.conflicts(b.Layout)) > 0 {
				trials[i].trust = trustRefuted
			}
		}
	}
}

// Ambiguous returns the layouts that explain the pages as well as the one taken
// and are trusted as much, but have fields elsewhere.
func (r *Result) Ambiguous() (others []*Layout) {
	if r.Layout == nil || len(r.Trials) == 0 || r.Trials[0].trust == trustNote {
		return nil
	}
	for _, t := range r.Trials[1:] {
		if t.Live > 0 && t.trust == r.Trials[0].trust && t.rank() >= r.Trials[0].rank() &&
			(t.trust == trustBuiltin || len(t.Layout.conflicts(r.Layout)) > 0) {
			others = append(others, t.From)
		}
	}
	return others
}

// A Dispute is a layout that explains the VMCSs too, but has fields elsewhere
// than the one taken.
type Dispute struct {
	Layout *Layout
	Live   int      // VMCSs that it explains
	Fields []string // that lie elsewhere
}

// Disputes returns the layouts that contradict the one taken, though they
// explain at least half as many VMCSs: if a note and a built-in layout do, one
// of them is wrong. It leaves out what [Result.Ambiguous] returns.
func (r *Result) Disputes() (ds []Dispute) {
	if r.Layout == nil || len(r.Trials) == 0 {
		return nil
	}
	ambiguous := r.Ambiguous()
	for _, t := range r.Trials[1:] {
		if t.short || t.Live == 0 || t.trust == trustBuiltin && r.Trials[0].trust == trustBuiltin || slices.Contains(ambiguous, t.From) {
			continue
		}
		if fields := t.Layout.conflicts(r.Layout); len(fields) > 0 {
			ds = append(ds, Dispute{t.From, t.Live, fields})
		}
	}
	return ds
}

// conflicts names the fields that two layouts have in different places. What a
// built-in layout marks as doubtful does not count.
func (l *Layout) conflicts(o *Layout) (names []string) {
	for _, e := range l.Entries {
		if !e.Known || e.Encoding.High() || e.Flags != "" && !e.Encoding.Rights() {
			continue
		}
		if p := o.find(e.Encoding); p != nil && p.Offset != e.Offset && (p.Flags == "" || e.Encoding.Rights()) {
			names = append(names, e.Name)
		}
	}
	return names
}
