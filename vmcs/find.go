package vmcs

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// A Search says what Find looks for. The zero value tries the built-in layouts.
type Search struct {
	// Note is the layout in the dump's VMCSINFO note, nil without one. It is
	// not changed. If it is given, only pages with its revision identifier
	// count, and the built-in layouts for that one are tried where the note's
	// fits no page. If its revision identifier is 0 (unknown), every page is
	// weighed by it.
	Note *Layout
	// Found are the layouts of notes found in the dump's memory, where any
	// program may have put them: they are tried beside the built-in ones. With
	// Note there are none.
	Found []FoundNote
	// Files are layouts that the caller has for the processors that the host
	// may have: they are tried after those of Found. With Note they do not
	// matter.
	Files []*Layout
	// Learnt is a part of the layout, inferred from a hypervisor's copies of what
	// it wrote to its VMCSs. A built-in layout that contradicts it is not tried;
	// one that agrees is preferred to it, because it has more fields. With Note,
	// Found or Files it does not matter.
	Learnt *Layout
	// Nested is for a guest's memory: the VMCSs in it are those of a
	// hypervisor that runs there, and may have any built-in layout besides
	// Note, the host's, which some hypervisors pass on.
	Nested bool
	// Partial says that the dump is cut off, or holds a part of memory: then what
	// it lacks means nothing. Otherwise a VMCS counts as stale if its page tables
	// are missing while those of other VMCSs are there, because makedumpfile
	// leaves out free pages.
	Partial bool
	// Sieve, if not nil, has seen all memory. Then only the pages that it has
	// kept are read, unless a layout may explain others.
	Sieve *Sieve
	// VMCOREINFO is the text of the dump's note of that name, if there is one.
	// It leads to Linux's own list of pages, which tells the freed ones.
	VMCOREINFO string
	// Explain keeps the checks of every candidate, and rejected ones.
	Explain bool
	// Progress, if not nil, is told how many bytes have been looked at; see
	// [physmem.ScanOptions].
	Progress func(done uint64)
}

// A FoundNote is a note found in memory.
type FoundNote struct {
	Layout *Layout
	Owner  Owner // of the memory it is in
}

const (
	// maxPhys is where physical addresses end: no processor has more bits.
	maxPhys = 1 << 52
	// MaxVMCSs is how many VMCSs Find returns at most, the best ones. No host
	// runs as many, and their pages take 32 MiB.
	MaxVMCSs = 8192
	// maxRejected is how many rejected pages are kept for explaining.
	maxRejected = 256
	// maxExplained is how many pages that are good keep their checks.
	maxExplained = 1024
	// maxVoters is how many pages tell how access rights are stored.
	maxVoters = 1024
)

// Find looks for VMCSs in all of m, which it reads once, with several workers.
// It weighs a page that begins with a revision identifier by every layout for
// it. It takes the note's layout if any page passes by that, otherwise the most
// trusted one that explains the pages.
//
// Without VMCSs the result is empty, and no error. Find fails if the context
// ends, or if no page could be read. It needs some 50 MiB in the worst case,
// whatever the dump holds.
func Find(ctx context.Context, m physmem.Memory, s Search) (*Result, error) {
	f := newFinder(m, s)
	f.giveTables()
	saw, part := &f.seen, m
	if s.Sieve != nil && !slices.ContainsFunc(f.plans, func(p *plan) bool { return !s.Sieve.serves(p.from) }) {
		saw, part = &s.Sieve.seen, s.Sieve.within(m)
	}
	err := physmem.Scan(ctx, part, physmem.ScanOptions{Progress: s.Progress, Lost: f.miss}, func(addr uint64, b []byte) error {
		f.count(eachPage(addr, b, f.look))
		return nil
	})
	if err != nil {
		return nil, errors.Wrap(err, "search for VMCSs")
	}
	if saw.pages == 0 && saw.lost > 0 {
		return nil, errors.Wrap(saw.err, "search for VMCSs")
	}
	res := &Result{Pages: saw.pages, Matched: f.matched.Load(), Lost: saw.lost, ReadError: saw.err, Strangers: f.strangers.ids}
	for _, p := range f.plans {
		p.tables.complete = !s.Partial && !s.Nested && res.Lost == 0
	}
	return res, f.choose(ctx, res)
}

// giveTables returns each plan the host's page tables to check pages by. It
// parses VMCOREINFO once: the text may have a MiB, and there are many layouts.
func (f *finder) giveTables() {
	memMap, owners := newMemMap(f.VMCOREINFO), NewOwners(f.r, f.VMCOREINFO)
	for _, p := range f.plans {
		p.tables = hostTables{r: f.r, memMap: memMap}
		if owners != nil {
			own := *owners // plans are weighed at the same time
			p.tables.owners = &own
			// Its tables have the direct map, whatever HOST_CR3 leads to.
			p.tables.directMap(owners.root, owners.root, owners.levels)
		}
		page := make([]byte, PageSize)
		p.good.weigh = func(addr uint64) int { return f.rate(p, addr, page) }
	}
}

// A finder holds what is common to the workers.
type finder struct {
	Search
	r         physmem.Reader
	plans     []*plan
	byID      map[uint32][]*plan
	matched   atomic.Uint64
	rejected  shortlist // pages that fail by all layouts, those at the lowest addresses
	strangers strangers
	seen
}

// A plan is a layout to try, and the pages that look good by it.
type plan struct {
	layout  *Layout // a copy of from
	from    *Layout
	trust   trust
	any     bool // every revision identifier
	matched atomic.Int64
	good    shortlist
	tables  hostTables
}

func newFinder(r physmem.Reader, s Search) *finder {
	f := &finder{Search: s, r: r, byID: make(map[uint32][]*plan)}
	f.rejected.max = maxRejected
	var layouts []*Layout
	var trusts []trust
	add := func(t trust, ls ...*Layout) {
		for _, l := range ls {
			layouts, trusts = append(layouts, l), append(trusts, t)
		}
	}
	if s.Note != nil {
		add(trustNote, s.Note)
	}
	for _, n := range s.Found {
		t := trustFound
		if n.Owner == OwnerKernel {
			t = trustKernel
		}
		add(t, n.Layout)
	}
	if s.Note == nil {
		add(trustFile, s.Files...)
	}
	var builtin []*Layout
	switch {
	case s.Note == nil || s.Nested:
		builtin = Builtin()
	case s.Note.RevisionID != 0:
		builtin = BuiltinFor(s.Note.RevisionID)
	}
	if s.Learnt != nil && s.Note == nil && len(s.Found)+len(s.Files) == 0 {
		builtin = slices.DeleteFunc(builtin, func(l *Layout) bool { return len(s.Learnt.conflicts(l)) > 0 })
		add(trustLearnt, s.Learnt)
	}
	add(trustBuiltin, builtin...)
	for i, l := range layouts {
		p := &plan{layout: l.clone(), from: l, any: l.RevisionID == 0, trust: trusts[i]}
		p.good.max = MaxVMCSs
		f.plans = append(f.plans, p)
		f.byID[l.RevisionID] = append(f.byID[l.RevisionID], p)
		if s.Note == nil || s.Nested { // else there is one revision identifier
			for _, id := range l.OtherIDs {
				f.byID[id] = append(f.byID[id], p)
			}
		}
	}
	return f
}

// look takes a first look at a page.
func (f *finder) look(addr uint64, page []byte) {
	id := binary.LittleEndian.Uint32(page)
	plans := f.byID[id&maxRevisionID]
	if len(plans) == 0 && f.Note != nil && f.Note.RevisionID == 0 {
		plans = f.plans[:1]
	}
	if len(plans) == 0 {
		if f.Note == nil {
			f.strangers.look(page)
		}
		return
	}
	f.matched.Add(1)
	good := false
	for _, p := range plans {
		p.matched.Add(1)
		j := judge{VMCS: &VMCS{addr, page, p.layout}, verdict: Live}
		if j.page(); j.settle() != Rejected {
			p.good.add(addr, j.won-j.lost)
			good = true
		}
	}
	if !good && f.Explain {
		f.rejected.add(addr, 0)
	}
}

// choose weighs the good pages with all that they lead to, and takes a layout.
func (f *finder) choose(ctx context.Context, res *Result) error {
	for _, p := range f.plans {
		p.settleRights(f.r)
		t, err := f.try(ctx, p, nil)
		if err != nil {
			return err
		}
		if t.Matched > 0 {
			res.Trials = append(res.Trials, t)
		}
	}
	settleTrust(res.Trials)
	sort.SliceStable(res.Trials, func(i, j int) bool { return res.Trials[i].before(res.Trials[j]) < 0 })
	var best *plan
	if len(res.Trials) > 0 && res.Trials[0].rank() > 0 {
		best = f.plans[slices.IndexFunc(f.plans, func(p *plan) bool { return p.layout == res.Trials[0].Layout })]
		taken, err := f.try(ctx, best, res)
		if err != nil {
			return err
		}
		taken.trust, taken.short = res.Trials[0].trust, res.Trials[0].short
		res.Trials[0], res.Layout, res.Dropped = taken, best.layout, best.good.dropped
	}
	if f.Explain {
		f.explain(res, best)
	}
	slices.SortFunc(res.VMCSs, byAddr)
	slices.SortFunc(res.Others, byAddr)
	return nil
}

func byAddr(a, b *Candidate) int { return cmp.Compare(a.Addr, b.Addr) }

// try weighs p's good pages, and keeps them in res if that is not nil. The
// second time it knows which page tables the dump holds at all.
func (f *finder) try(ctx context.Context, p *plan, res *Result) (Trial, error) {
	t := Trial{Layout: p.layout, From: p.from, Matched: int(p.matched.Load()), trust: p.trust}
	var shadows []uint64
	page := make([]byte, PageSize)
	for i, addr := range p.good.addrs() {
		if ctx.Err() != nil {
			return t, errors.Wrap(context.Cause(ctx), "search for VMCSs")
		}
		c, err := f.weigh(p, addr, page, f.Explain && i < maxExplained)
		if err != nil {
			continue // it could be read a moment ago: the dump changes
		}
		switch c.Verdict {
		case Live:
			t.Live++
			t.Score += c.Score
			if c.rooted {
				t.rooted += c.Score
			}
		case Stale:
			t.Stale++
		}
		if res == nil {
			continue
		}
		if c.Verdict == Live {
			res.VMCSs = append(res.VMCSs, c)
		} else if c.Verdict != Rejected || f.Explain {
			res.Others = append(res.Others, c)
		}
		if link, ok := c.Read(VMCSLinkPointer); ok && c.Verdict == Live && link != ^uint64(0) {
			shadows = append(shadows, link)
		}
		page = make([]byte, PageSize)
	}
	if res != nil {
		f.shadows(res, p.layout, shadows)
	}
	return t, nil
}

// rate scores the page at addr by all it leads to. A list that is too long is
// cut by this score: a stale or rejected page comes after all live ones.
func (f *finder) rate(p *plan, addr uint64, page []byte) int {
	const step = 1 << 16
	c, err := f.weigh(p, addr, page, false)
	if err != nil {
		return -2 * step
	}
	return c.Score - step*int(Live-max(c.Verdict, Shadow))
}

// weigh reads the page at addr to page, and weighs it with all it leads to.
func (f *finder) weigh(p *plan, addr uint64, page []byte, keep bool) (*Candidate, error) {
	if n, err := f.r.ReadPhys(page, addr); n < len(page) {
		return nil, err
	}
	c := &Candidate{VMCS: VMCS{addr, page, p.layout}}
	j := judge{VMCS: &c.VMCS, keep: keep, verdict: Live}
	if j.page(); j.verdict != Rejected {
		j.evidence(&p.tables)
	}
	c.Verdict, c.Score, c.Checks, c.rooted = j.settle(), j.won-j.lost, j.checks, j.rooted
	if c.Verdict != Rejected && c.Shadow() && !f.Nested {
		c.Verdict = Shadow
	}
	return c, nil
}
